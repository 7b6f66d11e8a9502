"""Maps and responses of neurons, as the report stores them: bytes in base64."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.report.figures.draw import Tables
from pipeline.report.figures.maps import box
from stages.conditions import Condition
from stages.readouts import saved_places, saved_predictions, saved_readouts

#: Cells of a neuron's map along rows and along columns, at most; finer ones are averaged.
_CELLS = (16, 24)

#: Predicted and measured responses in the page at most; then test images are left out evenly.
_ROOM = 200_000


def neuron_maps(tables: Tables, condition: Condition, n: int) -> dict[str, Any] | None:
    """Row and column weights of every neuron as bytes, 255 for its largest."""
    readouts = saved_readouts(tables.run, condition)
    if not len(readouts.row_weights):
        return None
    sides = [
        _pooled(np.asarray(weights[:n], dtype=np.float64), most)
        for weights, most in zip(
            (readouts.row_weights, readouts.column_weights), _CELLS, strict=True
        )
    ]
    height, width = condition.size
    grid = readouts.row_weights.shape[1], readouts.column_weights.shape[1]
    edges = box(grid, (height, width), saved_places(tables.run, condition))
    named = zip(("rows", "columns"), (_to_bytes(side) for side in sides), strict=True)
    return {
        **dict(named),
        "n": [side.shape[1] for side in sides],
        "size": [height, width],
        "box": edges,
    }


def _pooled(weights: NDArray[np.float64], most: int) -> NDArray[np.float64]:
    """Neighbouring weights averaged to at most so many for each neuron, the largest one 1."""
    edges = np.linspace(0, weights.shape[1], min(most, weights.shape[1]) + 1).astype(int)[:-1]
    counts = np.diff([*edges, weights.shape[1]])
    pooled = np.add.reduceat(weights, edges, axis=1) / counts
    peak = pooled.max(axis=1, keepdims=True)
    shown: NDArray[np.float64] = pooled / np.where(peak > 0, peak, 1)
    return shown


def neuron_tests(tables: Tables, condition: Condition, n: int) -> dict[str, Any] | None:
    """Predicted and measured responses of every neuron as bytes, from its lowest to its highest."""
    saved = saved_predictions(tables.run, condition)
    if saved is None or saved.responses is None:
        return None
    n_images = len(saved.images)
    kept = max(1, min(n_images, _ROOM // (2 * n)))
    images = np.unique(np.linspace(0, n_images - 1, kept).astype(int))
    # Neurons first: the page takes one neuron's at a time.
    pairs = np.stack([saved.predictions[images, :n].T, saved.responses[images, :n].T], axis=1)
    low, high = np.nanmin(pairs, axis=(1, 2)), np.nanmax(pairs, axis=(1, 2))
    spread = np.where(high > low, high - low, 1)
    scaled = np.nan_to_num((pairs - low[:, None, None]) / spread[:, None, None])
    return {
        "values": _to_bytes(scaled),
        "images": [int(image) for image in saved.images[images]],
        "of": n_images,
        "low": [float(f"{x:.4g}") for x in low],
        "spread": [float(f"{x:.4g}") for x in spread],
    }


def _to_bytes(values: NDArray[np.floating]) -> str:
    """Values from 0 to 1 as bytes in base64."""
    return base64.b64encode(np.round(values * 255).astype(np.uint8).tobytes()).decode()
