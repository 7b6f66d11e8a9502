"""Files that are whole after a power cut: written beside their place, then renamed into it.

Another process sees a file as it was or as it will be. Whoever is killed leaves at most the
temporary, see `discard_unplaced`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from cache.write.space import naming
from cache.write.temporaries import inside

#: Names of the temporaries of `replaced`.
_UNPLACED = re.compile(r"\..+\.\d+\.new")


def atomic_write(path: Path, content: bytes) -> None:
    """Give a file its content in one step, and wait until it is on the disk; make its folder."""
    with replaced(path, durable=True) as file:
        file.write(content)


@contextlib.contextmanager
def replaced(
    path: Path, *, temporary: Path | None = None, durable: bool = False
) -> Iterator[BinaryIO]:
    """A file to write what `path` will be, in one step, at the end.

    Parameters
    ----------
    temporary : path, optional
        Where the content is written first, on the same disk; gone afterwards, also on failure. By
        default beside `path`, under a name of this process.
    durable : bool
        Make the file's folder, and wait until content and name are on the disk; else see
        `make_durable`.
    """
    if durable:
        make_folder(path.parent)
    temporary = temporary or path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        # What a link of that name leads to is not touched.
        temporary.unlink(missing_ok=True)
        with naming(path):
            with temporary.open("xb") as file:
                yield file
            if durable:
                place_file(temporary, path)
            else:
                temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def discard_unplaced(folder: Path) -> None:
    """Delete what killed processes left of `replaced` in a folder that nobody else writes to."""
    for left in folder.glob(".*.new"):
        if _UNPLACED.fullmatch(left.name) and left.is_file() and not left.is_symlink():
            left.unlink(missing_ok=True)


def replace_files(
    root: Path, files: Iterable[tuple[str, bytes | bytearray]], *, temporary: Path
) -> None:
    """Give files below a folder their content, each in one step; then make all of them durable.

    Each path below `root`, with its content, is asked for when the one before is written.
    """
    paths = []
    for name, content in files:
        path = inside(root, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced(path, temporary=temporary) as file:
            file.write(content)
        # Some tens of MB, and the next is made before the name is given anew.
        del content
        paths.append(path)
    make_durable(paths, below=root)


def place_file(temporary: Path, path: Path) -> None:
    """Give a file its name in one step, once its content is on the disk."""
    _sync(temporary)
    temporary.replace(path)
    _sync(path.parent)


def place_folder(temporary: Path, path: Path, *, aside: Path | None = None) -> None:
    """Give a folder its name in one step, once all that is in it is on the disk.

    Who has that name goes `aside` just before.
    """
    make_durable((each for each in temporary.rglob("*") if each.is_file()), below=temporary)
    if aside is not None and path.exists():
        path.rename(aside)
    temporary.rename(path)
    _sync(path.parent)


def link_file(file: Path, place: Path) -> None:
    """Give a file a second name, or copy it where the disk has no such thing; make its folder."""
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        place.hardlink_to(file)
    except OSError:
        shutil.copyfile(file, place)


def make_folder(path: Path) -> None:
    """Make a folder, and those above it; wait until the names of new ones are on the disk."""
    new = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in new:
        _sync(folder.parent)


def make_durable(files: Iterable[Path], *, below: Path) -> None:
    """Wait until files, and the directories between them and `below`, are on the disk.

    A name is durable once its directory is, so directories follow the files they name.
    """
    directories: set[Path] = set()
    for path in files:
        _sync(path)
        directories.update(p for p in path.parents if p == below or below in p.parents)
    for directory in sorted(directories, reverse=True):
        _sync(directory)


def _sync(path: Path) -> None:
    """Wait until a file's content, or the names in a directory, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        # On macOS fsync leaves the data in the drive's own cache.
        full = getattr(fcntl, "F_FULLFSYNC", None)
        if full is not None:
            with contextlib.suppress(OSError):
                fcntl.fcntl(handle, full)
                return
        os.fsync(handle)
    except OSError as error:
        # Some network file systems know no such thing, for directories above all.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)
