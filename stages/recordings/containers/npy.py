"""Arrays of `.npz` files, of folders of `.npy` files, and of single ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache import UserError
from stages.recordings.containers.stored import StoredArray, taken
from stages.recordings.readers.npy_archive import HEADER, NpyFolder, open_archive

_ENDING = ".npy"


@dataclass(frozen=True, kw_only=True)
class NpyMember(StoredArray):
    """One `.npy` of an archive."""

    member: str

    def _read(self, rows: NDArray[np.int64] | None, axis: int) -> NDArray[Any]:
        return taken(NpyFolder(self.path, limit=self.limit).array(self.member), rows, axis)


@dataclass(frozen=True, kw_only=True)
class NpyFile(NpyMember):
    """One `.npy` file of a folder, of which only the rows that are asked for are read."""

    by_rows = True

    def _read(self, rows: NDArray[np.int64] | None, axis: int) -> NDArray[Any]:
        file = self.path if self.path.is_file() else self.path / self.member
        mapped = np.load(file, mmap_mode="r", allow_pickle=False)
        return np.array(mapped) if rows is None else np.take(mapped, rows, axis=axis)


def open_npy(path: Path, limit: int) -> dict[str, StoredArray]:
    """The arrays of an `.npz`, a folder of `.npy` files or one `.npy` file, by their names."""
    if path.is_file() and path.suffix.lower() == _ENDING:
        shape, dtype = _header(NpyFolder(path.parent, limit=limit), path.name)
        return {
            path.stem: NpyFile(
                path=path, name=path.stem, shape=shape, dtype=dtype, limit=limit, member=path.name
            )
        }
    archive = open_archive(path, may_be_folder=True)
    archive.limit = limit
    kind = NpyFile if path.is_dir() else NpyMember
    found: dict[str, StoredArray] = {}
    for member in sorted(archive.members()):
        if member.endswith(_ENDING):
            name = member.removesuffix(_ENDING)
            shape, dtype = _header(archive, member)
            found[name] = kind(
                path=path, name=name, shape=shape, dtype=dtype, limit=limit, member=member
            )
    return found


def _header(archive: NpyFolder, member: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of an array, which is not read."""
    try:
        with (archive.tree() / member).open("rb") as stream:
            version = np.lib.format.read_magic(stream)
            read = np.lib.format.read_array_header_1_0
            if version != (1, 0):
                read = np.lib.format.read_array_header_2_0
            shape, _, dtype = read(stream, max_header_size=HEADER)
            math.prod(shape)
    except Exception as error:  # damaged bytes make the parsers raise nearly anything
        raise UserError(
            f"{member} of {archive.path} cannot be read ({' '.join(str(error).split())[:200]}): "
            "write or fetch it again"
        ) from error
    return shape, dtype
