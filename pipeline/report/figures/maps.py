"""Maps of the readouts' spatial weights, and their centres over cortex."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cache import Places
from pipeline.report.figures.style import FONT, MANY_POINTS, panels_of, say_empty, title
from stages.readouts import Readouts

#: Neurons whose maps are drawn.
SHOWN = 12


def spatial_maps(
    readouts: Readouts,
    neurons: pd.DataFrame,
    *,
    input_size: tuple[int, int],
    places: Places | None = None,
    note: str = "",
    ax: Axes | None = None,
    colours: str = "Greys",
) -> Figure:
    """Spatial weights of the best explained neurons over the grid of patches.

    `neurons` are the condition's rows of the neurons table, in the readouts' order; `input_size`
    is in pixels; `places` are where the patches lie, side by side over the image by default;
    `colours` is a colour map of matplotlib.
    """
    order = neurons["feve"].fillna(-np.inf).to_numpy(dtype=float).argsort()[::-1][:SHOWN]
    columns = 4
    figure, panels = panels_of(ax, max(1, -(-len(order) // columns)), columns)
    height, width = input_size
    grid = readouts.row_weights.shape[1], readouts.column_weights.shape[1]
    top, left, bottom, right = box(grid, input_size, places)
    for axes, row in zip(panels, order, strict=False):
        space = np.outer(readouts.row_weights[row], readouts.column_weights[row])
        peak = space.max()
        shown = space / peak if peak > 0 else space
        sides = (left, right, bottom, top)
        axes.imshow(shown, cmap=colours, vmin=0, vmax=1, extent=sides, interpolation="nearest")
        axes.set_xticks(np.linspace(left, right, grid[1] + 1), minor=True)
        axes.set_yticks(np.linspace(top, bottom, grid[0] + 1), minor=True)
        axes.grid(which="minor", color="#56B4E9", linewidth=0.5)
        axes.tick_params(which="minor", length=0)
        axes.set(xticks=[0, width], yticks=[0, height], xlim=(0, width), ylim=(height, 0))
        number, feve = (neurons[name].iloc[int(row)] for name in ("neuron", "feve"))
        axes.set_title(f"neuron {number}\nFEVE {feve:.2f}", fontsize=FONT)
    for axes in panels[len(order) :]:
        axes.set_axis_off()
    heading = "Spatial weights of the best explained neurons (dark: largest), in input pixels"
    title(panels[0], ax, heading, note)
    return figure


def box(
    grid: tuple[int, int], input_size: tuple[int, int], places: Places | None
) -> tuple[float, float, float, float]:
    """Upper, left, lower and right edge of a map whose cells lie around the patches' true centres.

    Cells are as large as the stride, in input pixels. Patches that nobody placed lie side by side.
    """
    if places is None:
        return 0, 0, *input_size
    edges = [c - step / 2 for c, step in zip(places.first_centre, places.stride, strict=True)]
    ends = [e + n * s for e, n, s in zip(edges, grid, places.stride, strict=True)]
    return edges[0], edges[1], ends[0], ends[1]


def centres(
    readouts: Readouts, *, input_size: tuple[int, int], places: Places | None = None
) -> NDArray[np.float64]:
    """Receptive-field centres in input pixels (row, column), array of shape (n_neurons, 2).

    The mean position of the patches, weighted by the spatial weights; NaN where all are zero.
    """
    found = []
    sides = (readouts.row_weights, readouts.column_weights)
    grid = sides[0].shape[1], sides[1].shape[1]
    top, left, bottom, right = box(grid, input_size, places)
    for weights, first, last in zip(sides, (top, left), (bottom, right), strict=True):
        n = weights.shape[1]
        positions = first + (np.arange(n) + 0.5) * (last - first) / n
        total = weights.sum(axis=1, dtype=np.float64)
        centre = np.full(len(weights), np.nan)
        np.divide(weights @ positions, total, out=centre, where=total > 0)
        found.append(centre)
    return np.stack(found, axis=1)


def centres_over_cortex(
    readouts: Readouts,
    neurons: pd.DataFrame,
    *,
    input_size: tuple[int, int],
    places: Places | None = None,
    note: str = "",
    ax: Axes | None = None,
    colours: str = "viridis",
) -> Figure:
    """Cortical position of every neuron, coloured by its receptive field's column and row.

    Parameters are those of `spatial_maps`.
    """
    figure, panels = panels_of(ax, 1, 2)
    where = centres(readouts, input_size=input_size, places=places)
    x, y = (neurons[name].to_numpy(dtype=float) for name in ("x", "y"))
    there = np.isfinite(x) & np.isfinite(y) & np.isfinite(where).all(axis=1)
    for axes, axis, name in zip(
        panels, (1, 0), ("column (azimuth)", "row (elevation)"), strict=True
    ):
        dots = axes.scatter(
            x[there], y[there], c=where[there, axis], s=6, cmap=colours,
            rasterized=len(x) > MANY_POINTS,
        )  # fmt: skip
        bar = figure.colorbar(dots, ax=axes, location="bottom")
        bar.set_label(f"receptive field's {name},\ninput pixels", fontsize=FONT)
        bar.ax.tick_params(labelsize=FONT)
        axes.set_aspect("equal")
        axes.set_xlabel("cortical x, as recorded", fontsize=FONT)
    panels[0].set_ylabel("cortical y, as recorded", fontsize=FONT)
    said = f"n = {int(there.sum())}"
    title(panels[0], ax, "Receptive-field centres over cortex", note, said)
    if not there.any():
        say_empty(panels[0], "no neuron has a position and a map")
    return figure
