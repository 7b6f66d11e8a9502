"""Columns that a recording brings: their names are data, never names of stored arrays."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Attribute that names the columns, in the order of their arrays.
NAMES = "columns"

#: Name of the array of the i-th.
_ARRAY = "column{}"


def stored_columns(
    columns: Mapping[str, NDArray[Any]], known: Collection[str]
) -> tuple[dict[str, tuple[NDArray[Any], tuple[str, ...]]], dict[str, list[str]]]:
    """Arrays with the names of their axes, and attributes that say which columns they are.

    Texts are kept as the bytes of UTF-8, shape (n_neurons, n_bytes).
    """
    own = {name: (values, ("neuron",)) for name, values in columns.items() if name in known}
    names = [name for name in columns if name not in known]
    arrays: dict[str, tuple[NDArray[Any], tuple[str, ...]]] = {**own}
    for i, name in enumerate(names):
        values = columns[name]
        if values.dtype.kind == "U":
            encoded = np.ascontiguousarray(np.char.encode(values, "utf-8"))
            as_bytes = encoded.view(np.uint8).reshape(len(values), -1)
            arrays[_ARRAY.format(i)] = as_bytes, ("neuron", "byte")
        else:
            arrays[_ARRAY.format(i)] = values, ("neuron",)
    return arrays, {NAMES: names} if names else {}


def read_columns(
    attributes: Mapping[str, Any], read: Callable[[str], NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """The columns that a recording brought, by their names."""
    found = {}
    for i, name in enumerate(attributes.get(NAMES, ())):
        values = read(_ARRAY.format(i))
        if values.ndim == 2:
            joined = np.ascontiguousarray(values).view(f"S{values.shape[1]}")[:, 0]
            values = np.char.decode(joined, "utf-8")
        found[str(name)] = values
    return found
