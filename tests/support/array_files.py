"""Writers of one recording's arrays in every kind of container, for tests."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io
import xarray as xr
import zarr
from numpy.typing import NDArray

#: Kinds of containers that `write_arrays` knows.
KINDS = ("npz", "npy", "zarr", "zarr2", "h5", "nc", "xarray", "mat", "mat73")


def made_arrays(*, n_neurons: int = 3, seed: int = 0, **changes: Any) -> dict[str, NDArray[Any]]:
    """20 images shown once and 5 shown four times, out of order; None leaves an array out."""
    rng = np.random.default_rng(seed)
    shown = rng.permutation(np.concatenate([np.arange(20), np.repeat(np.arange(20, 25), 4)]))
    arrays: dict[str, Any] = {
        "images": rng.integers(0, 256, (25, 6, 9), dtype=np.uint8),
        "image": shown,
        "responses": rng.gamma(1.0, 2.0, (len(shown), n_neurons)).astype(np.float32),
        "depth": 100.0 * np.arange(n_neurons),
        "x": rng.uniform(0, 50, n_neurons),
    }
    return {key: np.asarray(v) for key, v in (arrays | changes).items() if v is not None}


def write_arrays(folder: Path, kind: str, arrays: Mapping[str, NDArray[Any]]) -> Path:
    """The arrays in a new container; its path."""
    if kind.startswith("mat") and "images" in arrays:
        arrays = {**arrays, "images": np.moveaxis(arrays["images"], 0, -1)}  # as MATLAB has them
    if kind == "nc" and "images" in arrays:
        arrays = {**arrays, "images": arrays["images"].astype(np.int16)}  # it has no uint8
    path = folder / {"npy": "mouse", "zarr2": "mouse.zarr", "xarray": "mouse.zarr"}.get(
        kind, f"mouse.{'mat' if kind == 'mat73' else kind}"
    )
    if kind == "npz":
        np.savez(path, **arrays)
    elif kind == "npy":
        path.mkdir()
        for name, values in arrays.items():
            np.save(path / f"{name}.npy", values)
    elif kind in ("zarr", "zarr2"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            group = zarr.create_group(str(path), zarr_format=3 if kind == "zarr" else 2)
            for name, values in arrays.items():
                group.create_array(name, data=values)
    elif kind in ("h5", "mat73"):
        with h5py.File(path, "w", userblock_size=512 if kind == "mat73" else 0) as file:
            for name, values in arrays.items():
                stored = values.astype(h5py.string_dtype()) if values.dtype.kind == "U" else values
                file.create_dataset(name, data=stored.T if kind == "mat73" else stored)
    elif kind == "mat":
        scipy.io.savemat(path, dict(arrays))
    else:
        # Axes in another order than here, but named.
        dims = {"images": "image row column", "responses": "trial neuron"}
        stored = {"images": "column image row", "responses": "neuron trial"}
        whole = xr.Dataset()
        for name, values in arrays.items():
            first = "trial" if len(values) == len(arrays["responses"]) else "neuron"
            given = xr.DataArray(values, dims=dims.get(name, first).split())
            whole[name] = given.transpose(*stored.get(name, first).split())
        write = whole.to_netcdf if kind == "nc" else whole.to_zarr
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            write(path)
    return path
