"""One array of a container: its shape is known, its numbers are read when asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache import UserError
from stages.recordings.guards.limit import NUMBER, check_size

#: Type of arrays of texts, whatever their lengths.
TEXT = np.dtype("U")


@dataclass(frozen=True, kw_only=True)
class StoredArray:
    """One array; it can be pickled, and then its path travels, not its content.

    Parameters
    ----------
    path : path
        The file or folder.
    name : str
        The array's name there: data, never a path of this machine.
    shape : tuple of int
    dtype : numpy dtype
        That of the result of `read`; `TEXT` for texts.
    limit : int
        Bytes of memory that a read may take.
    axes : tuple of str, optional
        Names of the axes, where the container tells them.
    """

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    limit: int
    axes: tuple[str, ...] | None = None

    #: Whether some rows are read without the others.
    by_rows = False

    @property
    def where(self) -> str:
        """Name and place, for messages."""
        return f"`{self.name}` of {self.path}"

    def check_size(self, count: int | None = None) -> None:
        """Refuse to read so many of its numbers, by default all, beyond the limit."""
        count = math.prod(self.shape) if count is None else count
        check_size(count * max(self.dtype.itemsize, NUMBER), self.where, self.limit)

    def read(self, rows: NDArray[np.int64] | None = None, *, axis: int = 0) -> NDArray[Any]:
        """The array, or some positions of one of its axes, in any order.

        Raises
        ------
        UserError
            Larger than the limit, Python objects, or a damaged file.
        """
        if self.dtype.kind in "OV" or self.dtype.hasobject:
            raise UserError(
                f"{self.where} is no plain array of numbers or texts ({self.dtype}): save it as one"
            )
        if rows is None or not self.by_rows:
            self.check_size()
        else:
            one = math.prod(self.shape) // max(1, self.shape[axis])
            self.check_size(one * len(rows))
        try:
            return self._read(rows, axis)
        except UserError:
            raise
        except Exception as error:  # damaged bytes make the parsers raise nearly anything
            raise UserError(
                f"{self.where} cannot be read ({' '.join(str(error).split())[:200]}): fetch or "
                "write the file again"
            ) from error

    def _read(self, rows: NDArray[np.int64] | None, axis: int) -> NDArray[Any]:
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class HeldArray(StoredArray):
    """An array in memory; pickled, its content travels."""

    values: NDArray[Any]

    by_rows = True

    def _read(self, rows: NDArray[np.int64] | None, axis: int) -> NDArray[Any]:
        return taken(self.values, rows, axis)


@dataclass(frozen=True)
class Packing:
    """How NetCDF and xarray keep numbers: value = stored x scale + offset, NaN where `fill`."""

    fill: tuple[float, ...] = ()
    scale: float = 1.0
    offset: float = 0.0

    def dtype(self, stored: np.dtype[Any]) -> np.dtype[Any]:
        """Type of the unpacked numbers."""
        if self == NONE or stored.kind not in "iuf":
            return stored
        return np.dtype(np.float32 if stored.itemsize <= 2 or stored == "f4" else np.float64)

    def unpacked(self, stored: NDArray[Any]) -> NDArray[Any]:
        """The numbers that are meant."""
        dtype = self.dtype(stored.dtype)
        if self == NONE or stored.dtype.kind not in "iuf":
            return stored
        missing = np.isin(stored, self.fill)
        values = (stored * self.scale + self.offset).astype(dtype)
        values[missing] = np.nan
        return values


#: Numbers as they are.
NONE = Packing()


def packing_of(attributes: Mapping[str, Any]) -> Packing:
    """What an array's attributes say of it."""

    def number(name: str) -> float | None:
        value = np.asarray(attributes.get(name, np.nan))
        if value.size != 1 or value.dtype.kind not in "iuf":
            return None
        return None if np.isnan(value).all() else float(value.reshape(()))

    fills = (number("_FillValue"), number("missing_value"))
    scale, offset = number("scale_factor"), number("add_offset")
    return Packing(
        fill=tuple(fill for fill in fills if fill is not None),
        scale=1.0 if scale is None else scale,
        offset=0.0 if offset is None else offset,
    )


def taken(array: NDArray[Any], rows: NDArray[np.int64] | None, axis: int) -> NDArray[Any]:
    """Some positions of an axis of an array in memory; all of it where none are named."""
    return array if rows is None else np.take(array, rows, axis=axis)
