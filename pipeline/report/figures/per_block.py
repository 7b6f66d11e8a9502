"""Figures of mean FEVE against the block that is read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.report.figures.published import published_for
from pipeline.report.figures.style import colour, legend, marker, new_figure, say_empty, title
from pipeline.results.names import describe, describe_first, known, varying

#: What a tuned series has in common with the frozen one that it started from.
_STARTS = ["recording", "model", "input_size", "tokens", "solver", "seed"]

_SERIES = ("recording", "model", "input_size", "tuning", "protocol", "solver", "seed", "tokens")


def feve_per_block(summary: pd.DataFrame, *, note: str = "") -> Figure:
    """Frozen conditions of a summary table: one line for patch and one for CLS tokens.

    Error bars are the s.e.m. over valid neurons, whose number stands in the legend.
    """
    frozen = summary[summary["tuning"] == "frozen"]
    return _figure(frozen, "Frozen backbone: FEVE per block", note)


def tuned_per_block(summary: pd.DataFrame, *, note: str = "") -> Figure:
    """Tuned backbones, and of the frozen ones those that they started from."""
    with_block = summary[summary["block"].notna()]
    tuned = set(map(known, with_block.loc[with_block["tuning"] != "frozen", _STARTS].to_numpy()))
    same = [known(start) in tuned for start in with_block[_STARTS].to_numpy()]
    return _figure(with_block[same], "Frozen and tuned backbones: FEVE per block", note)


def models_per_block(
    summary: pd.DataFrame, *, tunings: Sequence[str] | None = ("frozen",), note: str = ""
) -> Figure:
    """Models against each other, for the given tunings (all of them for None), patch tokens."""
    shown = summary[summary["tokens"] == "patch"]
    if tunings is not None:
        shown = shown[shown["tuning"].isin(tunings)]
    what = "frozen" if tunings == ("frozen",) else "frozen and tuned"
    return _figure(shown, f"Backbones, {what}: FEVE per block", note)


def _figure(table: pd.DataFrame, heading: str, note: str) -> Figure:
    # Readouts of several blocks at once have no place on this axis.
    joint = table["blocks"].astype("string").str.contains("+", regex=False, na=False)
    shown = table[table["block"].notna() & ~joint]
    figure, axes = new_figure()
    names = varying(shown.to_dict("records"), _SERIES)
    told = list(dict.fromkeys([*names, "tokens"]))
    published = []
    for number, (values, rows) in enumerate(shown.groupby(list(_SERIES), sort=False, dropna=False)):
        identity = dict(zip(_SERIES, values, strict=True))
        _line(axes, rows.sort_values("block"), describe(identity, told), number)
        for point in published_for(identity):
            published += axes.plot(
                [np.nan if point.block is None else point.block],
                [point.feve],
                marker=marker(number),
                color=colour(number),
                alpha=0.35,
                markersize=10,
                linestyle="none",
            )
    if published:
        axes.plot([], [], "o", color="0.5", alpha=0.35, markersize=10, label="published values")
    if shown.empty:
        say_empty(axes, "no condition reads a block")
    axes.set_xlabel("transformer block (0-based)")
    axes.set_ylabel("FEVE, mean ± s.e.m. over valid neurons")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    title(axes, heading, describe_first(shown, [n for n in _SERIES if n not in told]), note)
    legend(axes)
    return figure


def _line(axes: Axes, rows: pd.DataFrame, label: str, number: int) -> None:
    counts = sorted({int(n) for n in rows["n_valid"]})
    n_valid = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    axes.errorbar(
        rows["block"].to_numpy(dtype=float),
        rows["mean_feve"].to_numpy(dtype=float),
        yerr=rows["sem_feve"].to_numpy(dtype=float),
        label=f"{label} (n = {n_valid})",
        color=colour(number),
        marker=marker(number),
        linestyle="-" if number < 8 else "--",
        markersize=5,
        capsize=2,
    )
