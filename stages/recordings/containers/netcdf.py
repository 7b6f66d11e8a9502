"""Arrays of NetCDF files of the classic format; NetCDF-4 files are HDF5."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache import UserError
from stages.recordings.containers.stored import NONE, TEXT, Packing, StoredArray, packing_of, taken


@dataclass(frozen=True, kw_only=True)
class NetcdfArray(StoredArray):
    """One variable."""

    packing: Packing = NONE

    def _read(self, rows: NDArray[np.int64] | None, axis: int) -> NDArray[Any]:
        with _opened(self.path) as file:
            stored = np.array(file.variables[self.name].data)
        if self.dtype == TEXT:  # characters along the last axis
            width = stored.shape[-1]
            joined = np.ascontiguousarray(stored).view(f"S{width}")[..., 0]
            return taken(np.char.decode(joined, "utf-8"), rows, axis)
        values = stored.astype(stored.dtype.newbyteorder("="), copy=False)
        return taken(self.packing.unpacked(values), rows, axis)


def open_netcdf(path: Path, limit: int) -> dict[str, StoredArray]:
    """The variables of a file, by their names."""
    found: dict[str, StoredArray] = {}
    try:
        with _opened(path) as file:
            for name, variable in file.variables.items():
                shape, dimensions = tuple(variable.shape), tuple(variable.dimensions)
                dtype, packing = variable.data.dtype.newbyteorder("="), packing_of(vars(variable))
                is_text = dtype.kind == "S" and len(shape) > 0
                found[name] = NetcdfArray(
                    path=path,
                    name=name,
                    shape=shape[:-1] if is_text else shape,
                    dtype=TEXT if is_text else packing.dtype(dtype),
                    limit=limit,
                    axes=dimensions[:-1] if is_text else dimensions,
                    packing=packing,
                )
    except Exception as error:  # damaged bytes make the parsers raise nearly anything
        raise UserError(
            f"{path} cannot be read as a NetCDF file ({' '.join(str(error).split())[:200]}): fetch "
            "or write it again"
        ) from error
    return found


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    import scipy.io

    # Mapped, not read: a damaged header asks for any number of bytes.
    file = scipy.io.netcdf_file(path, mmap=True)
    try:
        yield file
    finally:
        with warnings.catch_warnings():
            # Whoever asked has copied.
            warnings.filterwarnings("ignore", message="Cannot close a netcdf_file")
            file.close()
