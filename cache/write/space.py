"""Room on disks: told before anything is written, and named where it ends all the same."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cache.errors import CacheError


def free_space(place: Path) -> int:
    """Free bytes of the disk that a file or folder lies on, or will."""
    return shutil.disk_usage(_existing(place)).free


def disk_of(place: Path) -> int:
    """Number of that disk: the same for places that share its room."""
    return _existing(place).stat().st_dev


def _existing(place: Path) -> Path:
    place = place.absolute()
    return next(path for path in (place, *place.parents) if path.exists())


def require_space(
    needed: int, place: Path, *, instead: str = "choose another place or fewer blocks"
) -> None:
    """Refuse with `CacheError` what a disk has no room for, and a place that cannot be written to.

    Parameters
    ----------
    needed : int
        Bytes.
    instead : str
        What may be done but make room, for the message.
    """
    if not os.access(_existing(place), os.W_OK):
        raise CacheError(f"{place} cannot be written to: make its folder writable, or {instead}")
    if needed > (free := free_space(place)):
        raise CacheError(
            f"{place} needs {needed / 1e9:.2f} GB and its disk has {free / 1e9:.2f} GB free: make "
            f"room, or {instead}"
        )


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Have errors of the system say which file they are of; those of writing to one do not."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise
