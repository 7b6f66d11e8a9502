"""Temporaries beside a store: under names of our own, and never reached through links."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from cache.errors import CacheError

#: Paths, in a store, of files that a store may hold, also while they are written.
_OURS = re.compile(
    r"((blocks|image|image_sha256|progress|patches|cls|registers|c|\d+)/)*(zarr\.json|\d+)(\.vitv1-part)?"
)


def real_path(path: Path) -> Path:
    """Where a store is, or will be, once links are followed.

    Raises
    ------
    CacheError
        A link that leads in a circle, or to a disk or a folder that is not there.
    """
    real = Path(os.path.realpath(path))
    for link in (path, *path.parents):
        target = Path(os.path.realpath(link))
        if link.is_symlink() and (target.is_symlink() or not target.parent.is_dir()):
            raise CacheError(
                f"{link} is a link to {link.readlink()}, which is not there: mount its disk or "
                "mend the link, or name another path"
            )
    return real


def beside(path: Path, what: str) -> Path:
    """Where something that must not lie inside a store is kept, on the same disk.

    `what` tells it from others, such as "part".
    """
    real = real_path(path)
    return real.with_name(f"{real.name}.vitv1-{what}")


def inside(store: Path, name: str) -> Path:
    """A file of a store by its path in it; `CacheError` where a folder on the way is a link."""
    path = store / name
    for folder in path.parents:
        if store in folder.parents and folder.is_symlink():
            raise CacheError(
                f"{folder} is a link, which no cache has: put what it leads to in its place, or "
                "delete it, then repeat"
            )
    return path


def require_ours(folder: Path) -> None:
    """Refuse, with `CacheError`, to delete a folder that holds what no store has."""
    for path in (folder, *sorted(folder.rglob("*"))):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_dir() or _OURS.fullmatch(name)):
            raise CacheError(
                f"{path} is no part of a feature cache, and {folder} would be deleted: move it "
                "elsewhere, then repeat; nothing was deleted"
            )


def discard(path: Path) -> None:
    """Delete a temporary, or part of a store, if it is there.

    Raises
    ------
    CacheError
        A link, or a folder that holds what no store has.
    """
    if path.is_symlink() or path.is_dir():
        require_ours(path)
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
