"""Kinds of arguments that people pass for an array, each with what must become of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dask.array
import numpy as np
import pandas as pd
import torch
import xarray
import zarr
from numpy.typing import NDArray

Array = NDArray[Any]


def _zarr(values: Array) -> Any:
    return zarr.array(np.ascontiguousarray(values))


def _frame(values: Array) -> Any:
    return pd.DataFrame(values) if values.ndim == 2 else values


def _strided(values: Array) -> Array:
    wide = np.zeros((*values.shape, 2), values.dtype)
    wide[..., 0] = values
    return wide[..., 0]


def _unaligned(values: Array) -> Array:
    records = np.zeros(values.shape, dtype=[("flag", "u1"), ("value", values.dtype)])
    records["value"] = values
    return records["value"]


def _read_only(values: Array) -> Array:
    kept = values.copy()
    kept.setflags(write=False)
    return kept


#: The same numbers in other clothes.
SAME: dict[str, Callable[[Array], Any]] = {
    "list": lambda values: values.tolist(),
    "tuple of arrays": tuple,
    "negative strides": lambda values: values[::-1].copy()[::-1],
    "not contiguous": _strided,
    "fortran": np.asfortranarray,
    "unaligned": _unaligned,
    "read-only": _read_only,
    "big-endian": lambda values: values.astype(values.dtype.newbyteorder(">")),
    "nothing masked": lambda values: np.ma.masked_array(values, np.zeros(values.shape, bool)),
    "data frame": _frame,
    "xarray": xarray.DataArray,
    "dask": lambda values: dask.array.from_array(values, chunks=2),
    "zarr": _zarr,
    "tensor": lambda values: torch.from_numpy(values.copy()),
}

#: The same numbers as floats only.
SAME_FLOATS: dict[str, Callable[[Array], Any]] = {
    "float64": lambda values: values.astype(np.float64),
    "long double": lambda values: values.astype(np.longdouble),
    "with gradient": lambda values: torch.from_numpy(values.copy()).requires_grad_(),
}


def _in_inference(values: Array) -> torch.Tensor:
    with torch.inference_mode():
        return torch.from_numpy(values.copy()) * 1


SAME_FLOATS["of inference mode"] = _in_inference


def _masked(values: Array) -> Any:
    mask = np.zeros(values.shape, bool)
    mask.flat[0] = True
    return np.ma.masked_array(values, mask)


#: What is no array of numbers.
REFUSED: dict[str, Callable[[Array], Any]] = {
    "mask": lambda values: np.ones(values.shape, bool),
    "list of bool": lambda values: np.ones(values.shape, bool).tolist(),
    "tensor mask": lambda values: torch.ones(values.shape, dtype=torch.bool),
    "masked": _masked,
    "list of masked": lambda values: list(_masked(values)),
    "0-d": lambda values: values.flat[0],
    "one axis more": lambda values: values[..., None, None, None],
    "objects": lambda values: values.astype(object),
    "beyond int64": lambda values: np.full(values.shape, 2**70, dtype=object),
    "text": lambda values: values.astype(str),
    "complex": lambda values: values.astype(complex),
    "dates": lambda values: values.astype("int64").astype("datetime64[s]"),
    "meta": lambda values: torch.empty(values.shape, device="meta"),
    "sparse": lambda values: torch.zeros(values.shape).to_sparse(),
    "none": lambda values: None,
    "generator": lambda values: (value for value in values),
}
