"""Figures with a point per neuron."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from pipeline.report.figures.style import (
    COLOURS,
    FONT,
    LOWEST_FEVE,
    MANY_POINTS,
    Entry,
    axes_of,
    figure_of,
    kind_of,
    legend,
    say_empty,
    title,
    wrapped,
)
from pipeline.results.names import describe_first
from pipeline.results.statistics import paired, paired_difference
from stages.conditions import IDENTITY
from stages.feve import VALID_FEV

#: Characters in a line of an axis' label.
_LABEL = 48


def scatter(
    first: pd.DataFrame,
    second: pd.DataFrame,
    *,
    names: tuple[str, str],
    note: str = "",
    ax: Axes | None = None,
    colours: Mapping[str, str] = COLOURS,
) -> Figure:
    """FEVE of every neuron that is valid in both, one condition against the other.

    `first` and `second` are rows of the neurons table; the axes call them by their `names`. Points
    have the colour of the second's kind. Other parameters are those of `feve_per_block`.
    """
    axes, pairs = axes_of(ax), paired(first, second)
    x = pairs["feve_first"].to_numpy(dtype=np.float64)
    y = pairs["feve_second"].to_numpy(dtype=np.float64)
    outside = (x < LOWEST_FEVE) | (y < LOWEST_FEVE)
    tone = _tone(second, colours)
    entries: list[Entry] = []
    for these, shape, label in (
        (~outside, "o", f"neurons (n = {len(pairs)})"),
        (outside, "v", f"of these below {LOWEST_FEVE}: {int(outside.sum())}"),
    ):
        if these.any():
            points = np.maximum(x, LOWEST_FEVE)
            entries += _dots(axes, points, y, these, shape, color=tone, label=label)
    entries.append((axes.axline((0, 0), slope=1, color="0.5", linewidth=0.8), "equal FEVE"))
    limits = _limits(np.concatenate([x, y]))
    axes.set(xlim=limits, ylim=limits, aspect="equal")
    axes.set_xlabel(wrapped(f"FEVE, {names[0]}", _LABEL), fontsize=FONT)
    axes.set_ylabel(wrapped(f"FEVE, {names[1]}", _LABEL), fontsize=FONT)
    difference = f"mean difference {paired_difference(first, second)}" if len(pairs) else ""
    title(axes, ax, "FEVE neuron by neuron", difference, note)
    if not len(pairs):
        say_empty(axes, "no neuron is valid in both")
    legend(axes, ax, entries if len(pairs) else None)
    return figure_of(axes)


def feve_against_fev(
    neurons: pd.DataFrame,
    *,
    note: str = "",
    ax: Axes | None = None,
    colours: Mapping[str, str] = COLOURS,
) -> Figure:
    """FEVE against FEV of every neuron, given one condition's rows."""
    axes = axes_of(ax)
    fev = neurons["fev"].to_numpy(dtype=np.float64)
    feve = neurons["feve"].to_numpy(dtype=np.float64)
    there = np.isfinite(fev) & np.isfinite(feve)
    entries: list[Entry] = []
    for these, tone, label in (
        (there & (fev > VALID_FEV), _tone(neurons, colours), f"FEV > {VALID_FEV}"),
        (there & (fev <= VALID_FEV), "0.6", f"FEV ≤ {VALID_FEV}, not in the means"),
    ):
        counted = f"{label} (n = {int(these.sum())})"
        entries += _dots(axes, fev, feve, these, "o", color=tone, label=counted)
    low = (feve[there] < LOWEST_FEVE).any()
    axes.axvline(VALID_FEV, color="0.6", linewidth=0.8, linestyle="--", zorder=0)
    axes.set(ylim=_limits(feve[there]))
    axes.set_xlabel("FEV, fraction of variance that is explainable", fontsize=FONT)
    edge = f"\n(values below {LOWEST_FEVE} at the edge)" if low else ""
    axes.set_ylabel(f"FEVE{edge}", fontsize=FONT)
    said = describe_first(neurons, IDENTITY)
    title(axes, ax, "Explained against explainable variance", said, note)
    if not there.any():
        say_empty(axes, "no neuron has a FEVE")
    legend(axes, ax, entries)
    return figure_of(axes)


def _tone(rows: pd.DataFrame, colours: Mapping[str, str]) -> str:
    kind = kind_of(rows.iloc[0].to_dict()) if len(rows) else "frozen"
    return colours.get(kind, COLOURS[kind])


def _dots(
    axes: Axes,
    x: NDArray[np.float64],
    feve: NDArray[np.float64],
    these: NDArray[np.bool_],
    shape: str,
    *,
    color: str,
    label: str,
) -> list[Entry]:
    """Some of the neurons, those below the axis at its edge; what a legend says of them."""
    axes.plot(
        x[these],
        np.maximum(feve[these], LOWEST_FEVE),
        shape,
        markersize=3,
        alpha=0.5,
        markeredgewidth=0,
        rasterized=len(x) > MANY_POINTS,
        color=color,
    )
    return [(Line2D([], [], marker=shape, markersize=6, color=color, linestyle="none"), label)]


def _limits(feve: NDArray[np.float64]) -> tuple[float, float]:
    """The range of what is drawn, and a little more."""
    drawn = np.clip(feve[np.isfinite(feve)], LOWEST_FEVE, None)
    if not len(drawn):
        return 0.0, 1.0
    margin = max(0.02, 0.05 * float(np.ptp(drawn)))
    return float(drawn.min()) - margin, float(drawn.max()) + margin
