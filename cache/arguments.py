"""Arguments of callers as the numbers that are meant: nothing is cast into something else."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.errors import UserError

#: Numbers that ids and positions may be.
_WHOLE = np.iinfo(np.int64)


def as_array(
    values: Any, what: str, *layouts: tuple[str, ...], missing: bool = False
) -> NDArray[Any]:
    """Real numbers along named axes, in the dtype they have and in this machine's byte order.

    Whatever numpy takes as an array will do: lists, arrays of pandas, xarray, dask, zarr and torch
    (on any device, with or without gradients). Named axes of xarray are put into the order of the
    layout; all others are taken by their position.

    Parameters
    ----------
    what : str
        What the values are, for messages.
    *layouts : tuple of str
        The names of the axes; the layout with as many axes as the values is theirs.
    missing : bool
        Whether values may be missing: masked ones become NaN then.

    Returns
    -------
    array
        The values themselves where they are such an array already. Torch takes all of them.

    Raises
    ------
    UserError
        Another number of axes; masks of True and False, Python objects, or anything else that is no
        real number; masked values that may not be missing; what cannot be read as an array.
    """
    array = _plain(values, what, layouts, missing=missing)
    if array.ndim not in map(len, layouts):
        expected = " or ".join(f"({', '.join(axes)})" for axes in layouts)
        raise UserError(f"{what} have shape {array.shape}: expected {expected}")
    if array.dtype.kind == "f" and array.dtype.itemsize > np.dtype(np.float64).itemsize:
        array = array.astype(np.float64)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if any(stride < 0 or stride % array.itemsize for stride in array.strides):
        array = array.copy()
    return array


def whole_numbers(values: Any, what: str) -> NDArray[np.int64]:
    """Ids or positions, array of shape (n,), from anything that `as_array` takes.

    Raises
    ------
    UserError
        Fractions and floats, masks of True and False, numbers beyond 64 bits, a single number.
    """
    array = _plain(values, what, (("entry",),), whole=True)
    if array.ndim != 1:
        raise UserError(f"{what} have shape {array.shape}: pass a list of whole numbers")
    if not len(array):
        return np.empty(0, dtype=np.int64)
    if array.dtype.kind not in "iu":
        shown = f"such as {array[0]}, {array.dtype}"
        raise UserError(f"{what} must be whole numbers, found others ({shown}): pass integers")
    if array.max() > _WHOLE.max:
        raise UserError(f"{what} hold {array.max()}, which is beyond {_WHOLE.max}: check them")
    return array.astype(np.int64, copy=False)


def whole_number(value: Any, what: str, *, least: int | None = None) -> int:
    """One whole number.

    Raises
    ------
    UserError
        True, False, a float, anything else, or a number below `least`.
    """
    bound = "" if least is None else f" from {least} on"
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    is_flag = isinstance(value, bool) or "bool" in str(getattr(value, "dtype", ""))
    if number is None or is_flag or (least is not None and number < least):
        raise UserError(f"{what} = {value!r}: a whole number{bound} is needed")
    return number


def _plain(
    values: Any,
    what: str,
    layouts: tuple[tuple[str, ...], ...],
    *,
    missing: bool = False,
    whole: bool = False,
) -> NDArray[Any]:
    """Values as a numpy array of numbers, which keeps dtype and number of axes."""
    try:
        axes = getattr(values, "dims", None)
        for layout in layouts:
            if isinstance(axes, tuple) and axes != layout and sorted(axes) == sorted(layout):
                values = values.transpose(*layout)
        if hasattr(values, "detach") and hasattr(values, "numpy"):
            # Torch's, without torch: numpy has no bfloat16.
            wide = values.float() if "bfloat16" in str(values.dtype) else values
            values = wide.numpy(force=True)
        if isinstance(values, list | tuple) and any(map(np.ma.isMaskedArray, values)):
            values = np.ma.stack(values)
        array = np.asarray(values)
    except Exception as error:  # libraries raise nearly anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{what} cannot be read as an array ({type(values).__name__}: {reason[:200]}): pass a "
            "numpy array"
        ) from error
    if array.dtype.kind == "b":
        meant = ": pass the ids that it chooses, such as ids[mask]" if whole else ""
        raise UserError(f"{what} are a mask of True and False, not numbers{meant}")
    if array.dtype.kind == "O" or (array.dtype.kind not in "iuf" and array.size):
        raise UserError(
            f"{what} are no plain numbers ({type(values).__name__} of dtype {array.dtype}): pass "
            f"an array of {'integers below 2**63' if whole else 'real numbers'}"
        )
    masked = int(np.ma.getmaskarray(values).sum()) if np.ma.isMaskedArray(values) else 0
    if masked and not missing:
        raise UserError(
            f"{what} have {masked} masked values, and none may be missing here: leave out their "
            "images or neurons, or fill them"
        )
    if masked:
        array = np.where(np.ma.getmaskarray(values), np.nan, array)
    return array
