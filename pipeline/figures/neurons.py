"""Neuron by neuron: two conditions against each other, FEVE against FEV, learning curves."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pipeline.figures.style import (
    MANY_POINTS,
    colour,
    describe,
    legend,
    new_figure,
    say_empty,
    title,
    varying,
)
from pipeline.statistics import paired, paired_difference
from stages.conditions import IDENTITY
from stages.feve import VALID_FEV

#: FEVE is drawn down to here; lower values lie on the edge, marked as triangles.
LOWEST = -0.5


def scatter(first: pd.DataFrame, second: pd.DataFrame, *, names: tuple[str, str]) -> Figure:
    """FEVE of every neuron that is valid in both, one condition against the other.

    Parameters
    ----------
    first, second : data frame
        Rows of the neurons table, one condition each.
    names : pair of str
        What the axes call them.
    """
    figure, axes = new_figure(5.2, 5.0)
    pairs = paired(first, second)
    x = pairs["feve_first"].to_numpy(dtype=np.float64)
    y = pairs["feve_second"].to_numpy(dtype=np.float64)
    outside = (x < LOWEST) | (y < LOWEST)
    for these, shape, label in (
        (~outside, "o", f"neurons (n = {len(pairs)})"),
        (outside, "v", f"of these below {LOWEST}: {int(outside.sum())}"),
    ):
        if these.any():
            axes.plot(
                np.maximum(x[these], LOWEST),
                np.maximum(y[these], LOWEST),
                shape,
                markersize=3,
                alpha=0.5,
                color=colour(0),
                markeredgewidth=0,
                label=label,
                rasterized=len(pairs) > MANY_POINTS,
            )
    axes.axline((0, 0), slope=1, color="0.6", linewidth=0.8, zorder=0)
    axes.set(
        xlim=(LOWEST - 0.03, 1.03),
        ylim=(LOWEST - 0.03, 1.03),
        xlabel=f"FEVE, {names[0]}",
        ylabel=f"FEVE, {names[1]}",
        aspect="equal",
    )
    if len(pairs):
        title(axes, "FEVE neuron by neuron", f"mean difference {paired_difference(first, second)}")
    else:
        title(axes, "FEVE neuron by neuron")
        say_empty(axes, "no neuron is valid in both")
    legend(axes)
    return figure


def feve_against_fev(neurons: pd.DataFrame, *, note: str = "") -> Figure:
    """How well each neuron is explained against how much of it can be; one condition's rows."""
    figure, axes = new_figure()
    fev = neurons["fev"].to_numpy(dtype=np.float64)
    feve = neurons["feve"].to_numpy(dtype=np.float64)
    there = np.isfinite(fev) & np.isfinite(feve)
    for these, tone, label in (
        (there & (fev > VALID_FEV), colour(0), f"FEV > {VALID_FEV}"),
        (there & (fev <= VALID_FEV), "0.6", f"FEV ≤ {VALID_FEV}, not in the means"),
    ):
        axes.plot(
            fev[these],
            np.maximum(feve[these], LOWEST),
            "o",
            markersize=3,
            alpha=0.5,
            markeredgewidth=0,
            color=tone,
            label=f"{label} (n = {int(these.sum())})",
            rasterized=len(neurons) > MANY_POINTS,
        )
    axes.axvline(VALID_FEV, color="0.6", linewidth=0.8, linestyle="--", zorder=0)
    axes.set(
        xlabel="FEV, fraction of variance that is explainable",
        ylabel=f"FEVE (values below {LOWEST} at the edge)",
        ylim=(LOWEST - 0.05, 1.08),
    )
    told = [name for name in IDENTITY if name != "blocks"]
    fixed = describe(neurons.iloc[0].to_dict(), told) if len(neurons) else ""
    title(axes, "Explained against explainable variance", fixed, note)
    if not there.any():
        say_empty(axes, "no neuron has a FEVE")
    legend(axes)
    return figure


def learning_curves(curves: pd.DataFrame) -> Figure:
    """Validation score against epoch, a line per condition; CNNs and tuned models in front."""
    figure, axes = new_figure()
    names = [name for name in varying(curves, IDENTITY) if name != "blocks"]
    lines = list(curves.groupby(list(IDENTITY), sort=False, dropna=False))
    for number, (values, rows) in enumerate(lines):
        identity = dict(zip(IDENTITY, values, strict=True))
        axes.plot(
            rows["epoch"].to_numpy(dtype=float),
            rows["validation_score"].to_numpy(dtype=float),
            color=colour(number),
            linestyle=("-", "--", ":", "-.")[number // 8 % 4],
            label=describe(identity, names or ["tuning"]),
        )
    if not lines:
        say_empty(axes, "no condition has a learning curve")
    axes.set(xlabel="epoch", ylabel="validation variance explained, mean over neurons")
    title(axes, "Learning curves")
    if len(lines) <= 26:
        legend(axes)
    return figure
