"""Kinds of files by their first bytes, for words on a file of a kind that was not expected."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

#: First bytes of files that people have beside those that are meant.
_KINDS = {
    b"PK": "a zip archive",
    b"MATLAB 5.0": "a MATLAB v5 file",
    b"MATLAB 7.3": "a MATLAB v7.3 (HDF5) file",
    b"\x89HDF": "an HDF5 file, such as NWB",
    b"\x93NUMPY": "a single .npy array",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"II*\0": "a TIFF image",
    b"MM\0*": "a TIFF image",
    b"\x1f\x8b": "a gzip file",
    b"RIFF": "an AVI video",
    b"CDF": "a NetCDF file",
    b"PAR1": "a parquet table",
    b"version https://git-lfs": "a pointer of Git LFS to a file that was not fetched",
    b"<": "a web page or XML",
}


def unexpected_kind(path: Path, expected: str) -> str | None:
    """What a file is, where it is surely something else than expected, such as "a zip archive"."""
    with suppress(OSError), path.open("rb") as file:
        first = file.read(64)
        if not first:
            return "empty"
        # A film's file begins with the length of its first part.
        if first[4:8] == b"ftyp":
            return "an MP4 video"
        found = (kind for mark, kind in _KINDS.items() if first.startswith(mark))
        kind = next(found, None)
        return None if kind == expected else kind
    return None
