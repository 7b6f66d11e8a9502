"""Uniform images, told from their pixels alone: every machine gives the same answer."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Grey levels by which pixels of integers may differ: less than any that a picture shows.
GREY_LEVELS = 0.1
#: The same for floats, in units of their own rounding: a value and its neighbours on either side.
OWN_ROUNDING = 2
#: And for both, in units of float32's: resizing one value gives results up to 3.5 of them apart.
RESIZE_ROUNDING = 64

#: Pixels are first compared this far apart: that settles nearly every image.
_STRIDE = 8


@dataclass(frozen=True)
class _Taps:
    """Pixels between which each resized one lies along an axis, and the weight of the upper one."""

    lower: NDArray[np.intp]
    upper: NDArray[np.intp]
    weight: NDArray[np.float64]

    def part(self, chosen: slice, *, first: int = 0) -> _Taps:
        """Some of the resized pixels, of an image that begins at pixel `first`."""
        return _Taps(self.lower[chosen] + first, self.upper[chosen] + first, self.weight[chosen])


def uniform(
    images: NDArray[np.generic], *, crop: tuple[int, int], size: tuple[int, int]
) -> NDArray[np.bool_]:
    """Which images are uniform, up to rounding, once they are resized and cropped.

    An image is uniform if no pixel differs from the first, of value v, by more than rounding: 0.1
    grey levels where integers are stored, 2 e |v| where floats with machine epsilon e are, and in
    any case 64 epsilons of float32 times |v|. Min-max would stretch such a difference to full
    contrast, and it depends on the machine.

    Parameters
    ----------
    images : array of shape (n_images, row, column)
        Raw images in their stored dtype.
    crop : pair of int
        [first, last) in raw columns.
    size : pair of int
        Rows and columns of the result.

    Returns
    -------
    array of shape (n_images,)
    """
    rows, columns = _taps(images.shape[1], size[0]), _columns(images.shape[2], crop, size[1])
    dtype: np.dtype[Any] = images.dtype
    rounding = RESIZE_ROUNDING * float(np.finfo(np.float32).eps)
    floats = np.issubdtype(dtype, np.floating)
    if floats:
        rounding = max(rounding, OWN_ROUNDING * float(np.finfo(dtype).eps))
    left = np.arange(len(images))
    for chosen in (slice(None, None, _STRIDE), slice(None)):
        grey = _resized(images, left, rows.part(chosen), columns.part(chosen))
        first = grey[:, :1, :1]
        allowed = np.maximum(0 if floats else GREY_LEVELS, rounding * np.abs(first))
        left = left[(np.abs(grey - first) <= allowed).all(axis=(1, 2))]
    found = np.zeros(len(images), dtype=bool)
    found[left] = True
    return found


def resized_columns(
    raw_columns: int, crop: tuple[int, int], columns: int
) -> tuple[int, int] | None:
    """Columns of the whole image when the crop becomes `columns`, and where the crop begins then.

    None where these are no whole numbers.
    """
    scale = Fraction(columns, crop[1] - crop[0])
    width, offset = scale * raw_columns, scale * crop[0]
    return (int(width), int(offset)) if width.denominator == offset.denominator == 1 else None


def _resized(
    images: NDArray[np.generic], chosen: NDArray[np.intp], rows: _Taps, columns: _Taps
) -> NDArray[np.float64]:
    """Some pixels of some images after bilinear resizing, array of shape (n, row, column)."""

    def between(across: NDArray[np.intp]) -> NDArray[np.float64]:
        low, high = (
            images[np.ix_(chosen, along, across)].astype(np.float32)
            for along in (rows.lower, rows.upper)
        )
        return low + rows.weight[:, None] * (high - low.astype(np.float64))

    left, right = between(columns.lower), between(columns.upper)
    return left + columns.weight * (right - left)


def _taps(n_pixels: int, n_resized: int) -> _Taps:
    """The rule of bilinear resizing without antialias, corners not aligned."""
    place = np.maximum((np.arange(n_resized) + 0.5) * (n_pixels / n_resized) - 0.5, 0)
    lower = np.minimum(place.astype(np.intp), n_pixels - 1)
    return _Taps(lower, np.minimum(lower + 1, n_pixels - 1), place - lower)


def _columns(raw_columns: int, crop: tuple[int, int], columns: int) -> _Taps:
    """The taps of the columns that are kept: of the resized whole, else of the crop itself."""
    whole = resized_columns(raw_columns, crop, columns)
    if whole is None:
        return _taps(crop[1] - crop[0], columns).part(slice(None), first=crop[0])
    width, offset = whole
    return _taps(raw_columns, width).part(slice(offset, offset + columns))
