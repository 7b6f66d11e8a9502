"""Size that a compressed MATLAB v5 file unpacks to, counted without keeping it."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

from stages.recordings.guards.limit import check_size

#: Length of the file's header, whose last two bytes tell the order of bytes.
_HEADER = 128

#: The type of an element that is compressed.
_COMPRESSED = 15

#: Bytes unpacked at a time.
_PART = 1 << 20

#: Most bytes that one compressed byte unpacks to.
_MOST = 1032


def check_unpacked(path: Path, limit: int) -> None:
    """Refuse a file of which one element unpacks to more bytes than the limit.

    What an element says of its size is not believed. Files of another format are not looked into.

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
            if kind != _COMPRESSED or size * _MOST <= limit:
                check_size(size, what, limit)
                file.seek(size, 1)
                continue
            end, unpacked, element = file.tell() + size, 0, zlib.decompressobj()
            while not element.eof and (part := file.read(min(_PART, end - file.tell()))):
                while part:
                    unpacked += len(element.decompress(part, _PART))
                    check_size(unpacked, what, limit)
                    part = element.unconsumed_tail
            file.seek(end)
