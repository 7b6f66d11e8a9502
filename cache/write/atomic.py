"""Files that are there after a power cut: written beside, synced, and renamed into place."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def replaced(path: Path, *, temporary: Path) -> Iterator[BinaryIO]:
    """A file to write what `path` will be, in one step, at the end; not yet durable.

    Parameters
    ----------
    temporary : path
        Where the content is written first, on the same disk; gone afterwards, also on failure.
    """
    try:
        with temporary.open("wb") as file:
            yield file
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def replace_file(path: Path, content: bytes | bytearray, *, temporary: Path) -> None:
    """Give `path` its content in one step; see `replaced`."""
    with replaced(path, temporary=temporary) as file:
        file.write(content)


def atomic_write(path: Path, content: bytes) -> None:
    """Give a file its content in one step, and wait until it is on the disk; make its folder.

    Another process sees the file as it was or as it will be. Whoever is interrupted leaves nothing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    with replaced(path, temporary=temporary) as file:
        file.write(content)
        file.flush()
        _flush(file.fileno())
    sync_directory(path.parent)


def beside(path: Path, suffix: str) -> Path:
    """Where something that must not lie inside a store is kept, on the same disk."""
    return path.with_name(path.name + suffix)


def make_durable(files: Iterable[Path], *, below: Path) -> None:
    """Wait until files, and the directories between them and `below`, are on the disk.

    A name is durable once its directory is, so directories follow the files they name.
    """
    directories: set[Path] = set()
    for path in files:
        _sync(path)
        directories.update(p for p in path.parents if p == below or below in p.parents)
    for directory in sorted(directories, reverse=True):
        sync_directory(directory)


def make_tree_durable(root: Path) -> None:
    """Wait until everything below `root` is on the disk."""
    make_durable((path for path in root.rglob("*") if path.is_file()), below=root)


def sync_directory(path: Path) -> None:
    """Wait until the names in a directory are on the disk."""
    _sync(path)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        _flush(handle)
    except OSError as error:
        # Some network file systems know no such thing, for directories above all.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def _flush(handle: int) -> None:
    # On macOS fsync leaves the data in the drive's own cache.
    full = getattr(fcntl, "F_FULLFSYNC", None)
    if full is not None:
        with contextlib.suppress(OSError):
            fcntl.fcntl(handle, full)
            return
    os.fsync(handle)
