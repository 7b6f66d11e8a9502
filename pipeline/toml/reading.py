"""A TOML file of a stranger, read within bounds of memory and time."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from cache import UserError

#: Bytes of a file at most.
LARGEST = 2**20

#: Dots in a line at most: a key of n parts takes time in n squared.
MOST_DOTS = 256


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a file.

    Raises
    ------
    UserError
        No such file, no TOML, or one beyond the bounds.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        told = "no such experiment file" if not path.is_file() else str(error.strerror)
        raise UserError(f"{path}: {told}; name a .toml file") from None
    if len(content) > LARGEST:
        raise UserError(f"{path} has more than {LARGEST // 2**20} MiB: it is no experiment file")
    if max(line.count(b".") for line in content.split(b"\n")) > MOST_DOTS:
        raise UserError(f"{path} has a line with more than {MOST_DOTS} dots: break the line")
    try:
        return tomllib.loads(content.decode("utf-8-sig"))  # Editors of Windows mark it.
    except (ValueError, RecursionError) as error:
        # A number of too many digits is a plain ValueError.
        raise UserError(f"{path} is not valid TOML: {error}") from None
