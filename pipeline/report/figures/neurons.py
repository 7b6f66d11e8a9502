"""Figures with a point per neuron, and learning curves."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from pipeline.report.figures.style import (
    LOWEST_FEVE,
    MANY_POINTS,
    colour,
    legend,
    new_figure,
    say_empty,
    title,
)
from pipeline.results.names import describe, describe_first, varying
from pipeline.results.statistics import paired, paired_difference
from stages.conditions import IDENTITY
from stages.feve import VALID_FEV


def scatter(
    first: pd.DataFrame, second: pd.DataFrame, *, names: tuple[str, str], note: str = ""
) -> Figure:
    """FEVE of every neuron that is valid in both, one condition against the other.

    `first` and `second` are rows of the neurons table; the axes call them by their `names`.
    """
    figure, axes = new_figure(5.2, 5.0)
    pairs = paired(first, second)
    x = pairs["feve_first"].to_numpy(dtype=np.float64)
    y = pairs["feve_second"].to_numpy(dtype=np.float64)
    outside = (x < LOWEST_FEVE) | (y < LOWEST_FEVE)
    for these, shape, label in (
        (~outside, "o", f"neurons (n = {len(pairs)})"),
        (outside, "v", f"of these below {LOWEST_FEVE}: {int(outside.sum())}"),
    ):
        if these.any():
            _dots(axes, np.maximum(x, LOWEST_FEVE), y, these, shape, color=colour(0), label=label)
    axes.axline((0, 0), slope=1, color="0.6", linewidth=0.8, zorder=0)
    limits = _limits(np.concatenate([x, y]))
    axes.set(
        xlim=limits,
        ylim=limits,
        xlabel=f"FEVE, {names[0]}",
        ylabel=f"FEVE, {names[1]}",
        aspect="equal",
    )
    difference = f"mean difference {paired_difference(first, second)}" if len(pairs) else ""
    title(axes, "FEVE neuron by neuron", difference, note)
    if not len(pairs):
        say_empty(axes, "no neuron is valid in both")
    legend(axes)
    return figure


def _dots(
    axes: Axes,
    x: NDArray[np.float64],
    feve: NDArray[np.float64],
    these: NDArray[np.bool_],
    shape: str,
    *,
    color: str,
    label: str,
) -> None:
    """Some of the neurons; those below the axis at its edge."""
    axes.plot(
        x[these],
        np.maximum(feve[these], LOWEST_FEVE),
        shape,
        markersize=3,
        alpha=0.5,
        markeredgewidth=0,
        rasterized=len(x) > MANY_POINTS,
        color=color,
        label=label,
    )


def _limits(feve: NDArray[np.float64]) -> tuple[float, float]:
    """From 0, or from the lowest value that is drawn, to 1 and a little more."""
    drawn = np.clip(feve[np.isfinite(feve)], LOWEST_FEVE, None)
    return drawn.min(initial=0.0) - 0.05, drawn.max(initial=1.0) + 0.05


def feve_against_fev(neurons: pd.DataFrame, *, note: str = "") -> Figure:
    """FEVE against FEV of every neuron, given one condition's rows."""
    figure, axes = new_figure()
    fev = neurons["fev"].to_numpy(dtype=np.float64)
    feve = neurons["feve"].to_numpy(dtype=np.float64)
    there = np.isfinite(fev) & np.isfinite(feve)
    for these, tone, label in (
        (there & (fev > VALID_FEV), colour(0), f"FEV > {VALID_FEV}"),
        (there & (fev <= VALID_FEV), "0.6", f"FEV ≤ {VALID_FEV}, not in the means"),
    ):
        counted = f"{label} (n = {int(these.sum())})"
        _dots(axes, fev, feve, these, "o", color=tone, label=counted)
    low = (feve[there] < LOWEST_FEVE).any()
    axes.axvline(VALID_FEV, color="0.6", linewidth=0.8, linestyle="--", zorder=0)
    axes.set(
        xlabel="FEV, fraction of variance that is explainable",
        ylabel="FEVE" + (f" (values below {LOWEST_FEVE} at the edge)" if low else ""),
        ylim=_limits(feve[there]),
    )
    title(axes, "Explained against explainable variance", describe_first(neurons, IDENTITY), note)
    if not there.any():
        say_empty(axes, "no neuron has a FEVE")
    legend(axes)
    return figure


def learning_curves(curves: pd.DataFrame, *, note: str = "") -> Figure:
    """Validation score against epoch, a line per condition; CNNs and tuned models in front."""
    figure, axes = new_figure()
    lines = [
        (dict(zip(IDENTITY, values, strict=True)), rows)
        for values, rows in curves.groupby(list(IDENTITY), sort=False, dropna=False)
    ]
    names = varying((identity for identity, _ in lines), [n for n in IDENTITY if n != "blocks"])
    for number, (identity, rows) in enumerate(lines):
        axes.plot(
            rows["epoch"].to_numpy(dtype=float),
            rows["validation_score"].to_numpy(dtype=float),
            color=colour(number),
            linestyle=("-", "--", ":", "-.")[number // 8 % 4],
            label=describe(identity, names or ["tuning"]),
        )
    if not lines:
        say_empty(axes, "no condition has a learning curve")
    axes.set(
        xlabel="epoch (of als: least squares, then its end)",
        ylabel="validation variance explained, mean over neurons",
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    fixed = [name for name in IDENTITY if name not in names]
    title(axes, "Learning curves", describe_first(curves, fixed), note)
    if len(lines) <= 26:
        legend(axes)
    return figure
