"""Arrays of MATLAB files: v5, and v7.3, which is HDF5."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cache import UserError
from stages.recordings.containers.hdf5 import open_hdf5
from stages.recordings.containers.stored import StoredArray, taken
from stages.recordings.guards.file_kind import unexpected_kind
from stages.recordings.guards.mat_file import check_unpacked

_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"

#: Classes of MATLAB that are no arrays of numbers.
_OTHERS = ("cell", "struct", "object", "sparse", "function", "opaque", "char")

_Result = TypeVar("_Result")


@dataclass(frozen=True, kw_only=True)
class MatArray(StoredArray):
    """One variable of a MATLAB v5 file."""

    def _read(self, rows: NDArray[np.int64] | None, axis: int) -> NDArray[Any]:
        import scipy.io

        def load() -> dict[str, Any]:
            check_unpacked(self.path, self.limit)
            return dict(scipy.io.loadmat(self.path, variable_names=[self.name]))

        return taken(np.asanyarray(_parsed(self.path, load)[self.name]), rows, axis)


def open_mat(path: Path, limit: int) -> dict[str, StoredArray]:
    """The variables of a MATLAB file, by their names; the order of axes is MATLAB's.

    Raises
    ------
    UserError
        A file that cannot be read as one, or an array larger than the limit, in bytes.
    """
    with path.open("rb") as file:
        head = file.read(512 + len(_HDF5_SIGNATURE))
    if _HDF5_SIGNATURE in (head[: len(_HDF5_SIGNATURE)], head[512:]):
        return open_hdf5(path, limit, of_matlab=True)
    # A caller that only needs to know the format does not wait for scipy.
    import scipy.io

    def listed() -> list[tuple[str, tuple[int, ...], str]]:
        check_unpacked(path, limit)
        return list(scipy.io.whosmat(path))

    return {
        name: MatArray(path=path, name=name, shape=shape, dtype=_dtype(kind), limit=limit)
        for name, shape, kind in _parsed(path, listed)
    }


def _dtype(kind: str) -> np.dtype[Any]:
    return np.dtype(object if kind in _OTHERS else "uint8" if kind == "logical" else kind)


def _parsed(path: Path, parse: Callable[[], _Result]) -> _Result:
    try:
        return parse()
    except UserError:
        raise
    except Exception as error:  # damaged bytes make the parser raise nearly anything
        if other := unexpected_kind(path, "a MATLAB v5 file"):
            raise UserError(f"{path} is {other}, not a MATLAB v5 file: name one") from None
        raise UserError(
            f"{path} cannot be read as a MATLAB v5 file ({error}): fetch it again, or name another"
        ) from error
