"""The figure of how scores of predictions agree, neuron by neuron."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pipeline.report.figures.style import (
    COLOURS,
    FONT,
    LOWEST_FEVE,
    MANY_POINTS,
    Entry,
    axes_of,
    figure_of,
    legend,
    say_empty,
    title,
)
from pipeline.results.names import describe_first
from pipeline.results.statistics import valid
from stages.conditions import IDENTITY

#: Columns, what the figure calls them, whether it squares them, colour (a key of `COLOURS`), shape.
_SCORES = (
    ("r2_er", "r²_ER", False, "last", "o"),
    ("cc_norm", "CC_norm²", True, "frozen", "x"),
    ("test_correlation", "correlation to the average²", True, "cnn", "^"),
    ("single_trial_correlation", "single-trial correlation²", True, "full", "v"),
)


def agreeing(neurons: pd.DataFrame) -> list[str]:
    """Columns of the scores that a table has; results of earlier versions have few."""
    return [name for name, *_ in _SCORES if name in neurons and neurons[name].notna().any()]


def rank_correlation(neurons: pd.DataFrame, name: str) -> float:
    """Spearman's correlation of a score with FEVE over valid neurons; NaN for fewer than two."""
    rows = valid(neurons)[["feve", name]].dropna()
    ranks = rows.rank()
    return float(ranks["feve"].corr(ranks[name])) if len(rows) > 1 else float("nan")


def score_agreement(
    neurons: pd.DataFrame,
    *,
    note: str = "",
    ax: Axes | None = None,
    colours: Mapping[str, str] = COLOURS,
) -> Figure:
    """Other scores of each valid neuron against its FEVE, given one condition's rows.

    Correlations are squared, so that all are fractions of a variance. Those that noise takes
    nothing from lie on the line or above it, as they allow for a scale and an offset.
    """
    axes, rows = axes_of(ax), valid(neurons).dropna(subset=["feve"])
    feve = np.maximum(rows["feve"].to_numpy(dtype=np.float64), LOWEST_FEVE)
    entries: list[Entry] = []
    present = agreeing(neurons)
    for name, label, squared, kind, shape in _SCORES:
        if name not in present or not len(rows):
            continue
        values = rows[name].to_numpy(dtype=np.float64)
        look: dict[str, Any] = {
            "marker": shape,
            "color": colours.get(kind, COLOURS[kind]),
            "linestyle": "none",
        }
        axes.plot(
            feve,
            np.square(values) if squared else values,
            markersize=3,
            alpha=0.5,
            rasterized=len(rows) > MANY_POINTS,
            **look,
        )
        said = f"{label} (rank correlation {rank_correlation(neurons, name):.2f})"
        entries.append((Line2D([], [], markersize=5, **look), said))
    entries.append((axes.axline((0, 0), slope=1, color="0.5", linewidth=0.8), "equal"))
    axes.set_xlabel("FEVE", fontsize=FONT)
    axes.set_ylabel("fraction of variance by other scores", fontsize=FONT)
    axes.set(ylim=(-0.1, 1.2))
    title(
        axes, ax, f"Scores compared, {len(rows)} neurons", describe_first(neurons, IDENTITY), note
    )
    if not len(rows):
        say_empty(axes, "no neuron is valid")
    legend(axes, ax, entries if len(rows) else None)
    return figure_of(axes)
