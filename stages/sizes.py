"""Numbers of bytes as people write them: "4GB", "512MiB", 4000000000."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, Field

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?", re.IGNORECASE)


def parse_size(value: object) -> object:
    """Bytes, where the value is a text such as "4GB"; any other value as it is.

    Raises
    ------
    ValueError
        A text that is no size.
    """
    if not isinstance(value, str):
        return value
    found = _SIZE.fullmatch(value.strip())
    if found is None:
        raise ValueError('expected a number of bytes such as "4GB" or "512MiB"')
    number, unit = found.groups()
    return int(float(number) * (_UNITS | _BINARY)[(unit or "").lower()])


def readable(size: float) -> str:
    """Such as "3.1 GB"."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(size) < 1000 or unit == "TB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.3g} {unit}"
        size /= 1000
    raise AssertionError


#: A positive number of bytes, or a text that says one.
ByteSize = Annotated[int, Field(gt=0), BeforeValidator(parse_size)]
