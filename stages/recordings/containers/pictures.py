"""Folders of pictures: PNG, JPEG and TIFF files, read one by one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache import UserError
from stages.recordings.guards.limit import NUMBER, check_size

#: Endings of pictures, and what Pillow calls their formats: no other parser of it is tried.
ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
_FORMATS = ("PNG", "JPEG", "TIFF")

#: Kinds of pixels that are one number each.
_GREY = ("1", "L", "I", "F", "I;16", "I;16B", "I;16L")


def picture_names(folder: Path) -> list[str]:
    """Names of the pictures directly in a folder, in order: 2.png before 10.png."""
    if not folder.is_dir():
        return []
    names = [each.name for each in folder.iterdir() if each.suffix.lower() in ENDINGS]
    return sorted(names, key=lambda name: (_number(name), name))


def picture_numbers(names: Sequence[str]) -> NDArray[np.int64] | None:
    """Whole numbers that files are named by, such as 7 of 0007.png; None where any is not."""
    stems = [PurePosixPath(name).stem for name in names]
    if not all(stem.isascii() and stem.isdecimal() and len(stem) < 19 for stem in stems):
        return None
    numbers = np.array([int(stem) for stem in stems], dtype=np.int64)
    return numbers if len(np.unique(numbers)) == len(numbers) else None


def picture_path(folder: Path, name: str) -> Path:
    """Where a picture lies that a file names; nothing above the folder is named.

    Raises
    ------
    UserError
        No such picture, a name that leads out of the folder, or one of another kind of file.
    """
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or pure.suffix.lower() not in ENDINGS:
        raise UserError(
            f"{folder}: {name!r} is no name of a picture ({', '.join(ENDINGS)}) in that folder"
        )
    if not (folder / pure).is_file():
        raise UserError(f"{folder} has no picture {name!r}: correct the name, or add the file")
    return folder / pure


def read_picture(path: Path, limit: int) -> NDArray[Any]:
    """Pixels as stored, array of shape (row, column) or (row, column, channel).

    Raises
    ------
    UserError
        No picture, a damaged one, one larger than the limit, in bytes, or one with holes.
    """
    from PIL import Image

    try:
        with Image.open(path, formats=_FORMATS) as picture:
            columns, rows = picture.size
            check_size(rows * columns * NUMBER, str(path), limit)
            if picture.mode in _GREY:
                return np.asarray(picture)
            pixels = np.asarray(picture.convert("RGBA"))
    except UserError:
        raise
    except Exception as error:  # damaged bytes make the parsers raise nearly anything
        raise UserError(
            f"{path} cannot be read as a picture ({' '.join(str(error).split())[:200]}): fetch or "
            "write it again"
        ) from error
    if (pixels[..., 3] != 255).any():
        raise UserError(f"{path} is transparent in parts: put a background behind it")
    return pixels[..., :3]


def _number(name: str) -> int:
    digits = "".join(c for c in name if c.isascii() and c.isdecimal())
    return int(digits[:18]) if digits else -1
