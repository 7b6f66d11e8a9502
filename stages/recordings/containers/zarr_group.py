"""Arrays of zarr groups, of format 2 or 3; those of xarray name their axes."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache import UserError
from stages.recordings.containers.stored import NONE, TEXT, Packing, StoredArray, packing_of
from stages.recordings.guards.limit import NUMBER, check_size

#: How deep groups may lie in each other.
DEPTH = 4


@dataclass(frozen=True, kw_only=True)
class ZarrArray(StoredArray):
    """One array."""

    packing: Packing = NONE

    by_rows = True

    def _read(self, rows: NDArray[np.int64] | None, axis: int) -> NDArray[Any]:
        import zarr

        array = zarr.open_array(str(self.path / self.name), mode="r")
        if rows is None:
            values = np.asarray(array[...])
        else:
            chosen = tuple(rows if i == axis else slice(None) for i in range(array.ndim))
            values = np.asarray(array.oindex[chosen])
        return (
            np.array(values.tolist(), dtype=np.str_)
            if self.dtype == TEXT
            else self.packing.unpacked(values)
        )


def open_zarr(path: Path, limit: int) -> dict[str, StoredArray]:
    """The arrays of a group, by their paths in it, such as "processing/dff"."""
    import zarr

    try:
        group = zarr.open_group(str(path), mode="r", use_consolidated=False)
        members = [(n, a) for n, a in group.members(DEPTH) if isinstance(a, zarr.Array)]
    except Exception as error:  # damaged metadata make the parsers raise nearly anything
        raise UserError(
            f"{path} cannot be read as a zarr group ({' '.join(str(error).split())[:200]}): fetch "
            "or write it again"
        ) from error
    return {name: _stored(path, name, array, limit) for name, array in members}


def _stored(path: Path, name: str, array: Any, limit: int) -> ZarrArray:
    metadata = array.metadata.to_dict()
    if "pickle" in json.dumps(metadata, default=str):
        raise UserError(f"`{name}` of {path} holds pickles, which are not read: save it without")
    chunk = array.shards or array.chunks
    size = math.prod(chunk) * max(array.dtype.itemsize, NUMBER)
    check_size(size, f"a chunk of `{name}` of {path}", limit)
    attributes = dict(array.attrs)
    packing = packing_of(attributes)
    axes = metadata.get("dimension_names") or attributes.get("_ARRAY_DIMENSIONS")
    named = tuple(axes) if axes and all(isinstance(axis, str) for axis in axes) else None
    return ZarrArray(
        path=path,
        name=name,
        shape=tuple(array.shape),
        dtype=TEXT if array.dtype.kind in "UT" else packing.dtype(array.dtype),
        limit=limit,
        axes=named,
        packing=packing,
    )
