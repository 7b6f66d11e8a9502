"""Arrays of HDF5 files: plain ones, NetCDF-4, and MATLAB v7.3."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cache import UserError
from stages.recordings.containers.stored import NONE, TEXT, Packing, StoredArray, packing_of
from stages.recordings.guards.limit import NUMBER, check_size

if TYPE_CHECKING:
    import h5py

#: Most arrays that a file may have.
MOST_ARRAYS = 10_000

#: What NetCDF-4 calls a dimension that is no variable.
_NO_VARIABLE = b"This is a netCDF dimension but not a netCDF variable"


@dataclass(frozen=True, kw_only=True)
class Hdf5Array(StoredArray):
    """One dataset. MATLAB keeps the order of its axes reversed."""

    reversed: bool = False
    packing: Packing = NONE

    by_rows = True

    def _read(self, rows: NDArray[np.int64] | None, axis: int) -> NDArray[Any]:
        import h5py

        with h5py.File(self.path, "r") as file:
            dataset = file[self.name]
            source = dataset.asstr() if self.dtype == TEXT else dataset
            if rows is None:
                values = np.asarray(source[()])
            else:
                stored_axis = dataset.ndim - 1 - axis if self.reversed else axis
                asked, back = np.unique(rows, return_inverse=True)
                part: Any = asked
                if len(asked) and asked[-1] - asked[0] == len(asked) - 1:
                    part = slice(int(asked[0]), int(asked[-1]) + 1)
                chosen = tuple(
                    part if i == stored_axis else slice(None) for i in range(dataset.ndim)
                )
                values = np.take(np.asarray(source[chosen]), back, axis=stored_axis)
        if self.dtype == TEXT:
            return values.astype(np.str_)
        values = self.packing.unpacked(values)
        return values.T if self.reversed else values


def open_hdf5(path: Path, limit: int, *, of_matlab: bool = False) -> dict[str, StoredArray]:
    """The datasets of a file, by their paths in it, such as "processing/dff".

    Links to other files are not followed, and data that lie in other files are refused. MATLAB's
    axes are put into MATLAB's order, also where only the file, not the dataset, is known as its.
    """
    import h5py

    found: dict[str, StoredArray] = {}

    def visit(name: str, item: Any) -> None:
        if not isinstance(item, h5py.Dataset):
            return
        if len(found) >= MOST_ARRAYS:
            raise UserError(f"{path} has more than {MOST_ARRAYS} arrays: name another file")
        if bytes(np.bytes_(item.attrs.get("NAME", b""))).startswith(_NO_VARIABLE):
            return
        if array := _stored(path, name, item, limit, of_matlab):
            found[name] = array

    try:
        with h5py.File(path, "r") as file:
            file.visititems(visit)
    except UserError:
        raise
    except Exception as error:  # damaged bytes make the parsers raise nearly anything
        raise UserError(
            f"{path} cannot be read as an HDF5 file ({' '.join(str(error).split())[:200]}): fetch "
            "or write it again"
        ) from error
    return found


def _stored(
    path: Path, name: str, item: h5py.Dataset, limit: int, of_matlab: bool
) -> Hdf5Array | None:
    import h5py

    if item.external or item.is_virtual:
        raise UserError(
            f"`{name}` of {path} lies in other files, which are not read: copy it into this one"
        )
    if item.shape is None:
        return None
    if item.chunks is not None:
        size = math.prod(item.chunks) * max(item.dtype.itemsize, NUMBER)
        check_size(size, f"a chunk of `{name}` of {path}", limit)
    of_matlab, packing = of_matlab or "MATLAB_class" in item.attrs, packing_of(item.attrs)
    is_text = h5py.check_string_dtype(item.dtype) is not None
    axes = tuple(_axis(item.dims[i]) for i in range(item.ndim))
    return Hdf5Array(
        path=path,
        name=name,
        shape=item.shape[::-1] if of_matlab else item.shape,
        dtype=TEXT if is_text else packing.dtype(item.dtype),
        limit=limit,
        axes=axes if all(axes) else None,
        reversed=of_matlab,
        packing=packing,
    )


def _axis(dimension: Any) -> str:
    """Name of an axis; "" where the file does not tell it."""
    if len(dimension):
        return str(dimension[0].name).rpartition("/")[2]
    return str(dimension.label)
