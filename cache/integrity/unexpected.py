"""Files, directories and links in a store that its format does not name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path, PurePosixPath

from zarr.abc.store import Store

from cache.format.faults import Fault
from cache.format.metadata import ROOT


async def unexpected(
    store: Store, where: str, *, files: AbstractSet[str], lost: AbstractSet[str]
) -> list[Fault] | None:
    """A fault per file, directory or link that does not belong; None where nothing can be listed.

    The format names `files`; of the arrays `lost`, nobody knows how many files they have.
    """

    def belongs(path: str) -> bool:
        return path in files or any(f"{path}/".startswith(f"{name}/c/") for name in lost)

    if Path(where).is_dir():
        needed = {str(folder) for path in files for folder in PurePosixPath(path).parents}
        return list(_unexpected_entries(Path(where), belongs, needed))
    if not store.supports_listing or where.startswith(("http://", "https://")):
        return None
    found = [path async for path in store.list()]
    if ROOT not in found:
        return None
    return [_other(path) for path in sorted(found) if not belongs(path)]


def _other(path: str) -> Fault:
    return Fault(path=path, problem="is not part of the cache: delete it", remedy="delete")


def _unexpected_entries(
    root: Path, belongs: Callable[[str], bool], needed: AbstractSet[str]
) -> Iterator[Fault]:
    for folder, folders, files in os.walk(root):
        inside = PurePosixPath(Path(folder).relative_to(root).as_posix())
        for name in sorted(folders + files):
            path = str(inside / name)
            may_be = belongs(path) if name in files else path in needed or belongs(path)
            if (root / path).is_symlink() and belongs(path):
                yield Fault(path=path, problem="is a link, which no cache has")
            elif not may_be or (root / path).is_symlink():
                yield _other(path)
        # What lies in a directory that does not belong goes with it.
        folders[:] = [n for n in folders if str(inside / n) in needed or belongs(str(inside / n))]
