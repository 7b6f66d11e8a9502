"""Sizes of the arrays of a compressed MATLAB v5 file, told before it is unpacked."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

from stages.recordings.guards.limit import check_size

#: Length of the file's header, whose last two bytes tell the order of bytes.
_HEADER = 128

#: The type of an element that is compressed.
_COMPRESSED = 15

#: Most bytes that one compressed byte unpacks to.
_MOST = 1032

#: Bytes at the start of an element that tell the sizes of its parts; names have 63 characters.
_HEAD = 4096

#: Flag of a complex array, which has another part than this module looks for.
_COMPLEX = 1 << 11


def check_unpacked(path: Path, limit: int) -> None:
    """Refuse a file of which one array is larger than the limit, in bytes.

    A reader takes as many bytes as each part of an element says that it has. Where that is not
    told at the start, the most is assumed. Other formats are not looked into.

    Raises
    ------
    UserError
        The message names the file and its size.
    """
    what = f"an array of {path}"
    with path.open("rb") as file:
        order = {b"IM": "<", b"MI": ">"}.get(file.read(_HEADER)[126:])
        if order is None:
            return
        while len(tag := file.read(8)) == 8:
            kind, size = struct.unpack(f"{order}II", tag)
            end, told = file.tell() + size, size
            if kind == _COMPRESSED:
                head = zlib.decompressobj().decompress(file.read(_HEAD), _HEAD)
                told = _largest_part(head, order) or size * _MOST
            check_size(told, what, limit)
            file.seek(end)


def _largest_part(head: bytes, order: str) -> int:
    """Bytes of the largest part of an array: flags, shape, name and numbers; 0 where unsure."""
    _, whole, _, _, flags = struct.unpack_from(f"{order}5I", head)
    place = 8
    sizes: list[int] = []
    while len(sizes) < 4 and place < min(8 + whole, len(head) - 7):
        kind, size = struct.unpack_from(f"{order}2I", head, place)
        # Up to four bytes stand in the tag itself.
        size, step = (0, 8) if kind >> 16 else (size, 8 + size + -size % 8)
        sizes.append(size)
        place += step
    return 0 if len(sizes) < 4 or flags & _COMPLEX else max(sizes)
