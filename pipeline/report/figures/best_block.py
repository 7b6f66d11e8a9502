"""Figures that compare conditions at their best blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.report.figures.published import published_for
from pipeline.report.figures.style import LOWEST_FEVE, colour, new_figure, say_empty, title
from pipeline.results.names import describe, describe_first, varying
from pipeline.results.statistics import SERIES, best_blocks, bootstrap_interval, rows_of, valid


def best_block_violins(neurons: pd.DataFrame, *, note: str = "") -> Figure:
    """Distribution of FEVE over valid neurons, each condition at its best block, with means.

    Blocks are chosen on validation.
    """
    figure, axes = new_figure()
    labels, hidden = [], 0
    for position, (label, feve, _) in enumerate(_at_best(neurons)):
        labels.append(label)
        shown = feve[feve >= LOWEST_FEVE]
        hidden += len(feve) - len(shown)
        if len(np.unique(shown)) > 1:
            bodies = axes.violinplot(shown, [position], widths=0.8, showextrema=False)["bodies"]
            for body in bodies:  # type: ignore[attr-defined]
                body.set(facecolor=colour(position), alpha=0.5)
        elif len(shown):
            axes.plot(np.full(len(shown), position), shown, "o", color=colour(position))
        axes.plot(position, feve.mean(), "D", color="black", markersize=5)
        axes.annotate(
            f"{feve.mean():.3f}",
            (position, feve.mean()),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    _finish(axes, neurons, labels, "FEVE at the best block: neurons (◆ mean)", note)
    axes.set_ylabel("FEVE per valid neuron")
    if hidden:
        axes.set_xlabel(f"{hidden} values below {LOWEST_FEVE} are not drawn (but in the means)")
    return figure


def best_block_bars(neurons: pd.DataFrame, *, note: str = "") -> Figure:
    """Mean FEVE at the best block, chosen on validation; the test-chosen one as an open marker.

    Error bars are 95 % bootstrap intervals over neurons; published values are faint stars.
    """
    figure, axes = new_figure()
    labels = []
    for position, (label, feve, row) in enumerate(_at_best(neurons)):
        labels.append(label)
        low, high = bootstrap_interval(feve)
        mean = feve.mean()
        axes.bar(position, mean, color=colour(position), width=0.65)
        axes.errorbar(position, mean, yerr=[[mean - low], [high - mean]], color="black", capsize=3)
        axes.plot(
            position + 0.2,
            row["test_mean_feve"],
            "o",
            markerfacecolor="none",
            color="black",
            label="block chosen on test" if position == 0 else None,
        )
        for point in published_for(row):
            axes.plot(position, point.feve, "*", color="0.3", alpha=0.5, markersize=14)
    _finish(axes, neurons, labels, "Mean FEVE at the best block (chosen on validation)", note)
    axes.set_ylabel("FEVE, mean and 95 % interval over valid neurons")
    if labels:
        axes.legend(frameon=False, fontsize=8)
    return figure


def _at_best(
    neurons: pd.DataFrame,
) -> Iterator[tuple[str, NDArray[np.float64], Mapping[Any, Any]]]:
    """Label, FEVE of valid neurons, and best-block row of every series."""
    scored = valid(neurons).dropna(subset=["feve"])
    best = best_blocks(neurons).to_dict("records")
    names = [*(varying(best, SERIES) or ["tuning"]), "block"]
    for row in best:
        feve = rows_of(scored, row)["feve"].to_numpy(dtype=np.float64)
        yield f"{describe(row, names)}\n(n = {len(feve)})".replace(", ", "\n"), feve, row


def _finish(axes: Axes, neurons: pd.DataFrame, labels: list[str], heading: str, note: str) -> None:
    if not labels:
        say_empty(axes, "no valid neuron has a FEVE")
    fixed = [n for n in SERIES if n != "tuning" and neurons[n].nunique(dropna=False) == 1]
    title(axes, heading, describe_first(neurons, fixed), note)
    axes.set_xticks(range(len(labels)), labels, fontsize=8)
    axes.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    axes.figure.set_size_inches(max(5.0, 1.6 + 1.3 * len(labels)), 4.8)  # type: ignore[union-attr]
