"""Figures that compare conditions at their best blocks, which validation chooses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from pipeline.report.figures.published import published_for
from pipeline.report.figures.style import (
    COLOURS,
    ERROR_BARS,
    FONT,
    INTERVAL,
    LOWEST_FEVE,
    axes_of,
    figure_of,
    heighten,
    say_empty,
    shades,
    title,
    wrapped,
)
from pipeline.results.names import describe, telling
from pipeline.results.statistics import FROZEN, SERIES, best_blocks, interval, rows_of, valid

#: Characters of a condition's label.
_LABEL = 38


@dataclass(frozen=True)
class _Bar:
    """A condition of a figure: its identity and the FEVE of its valid neurons."""

    row: Mapping[Any, Any]
    feve: NDArray[np.float64]


def best_block_violins(
    neurons: pd.DataFrame,
    *,
    note: str = "",
    ax: Axes | None = None,
    colours: Mapping[str, str] = COLOURS,
) -> Figure:
    """Distribution of FEVE over valid neurons, each condition at its best block, with means.

    Parameters are those of `feve_per_block`, but `neurons`, the neurons table.
    """
    axes, bars = axes_of(ax), _at_best(neurons)
    hidden = 0
    for position, (bar, tone) in enumerate(zip(bars, _tones(bars, colours), strict=True)):
        hidden += draw_violin(axes, position, bar.feve, tone)
    _finish(axes, ax, bars, "FEVE at the best block: neurons (◆ mean)", note)
    axes.set_xlabel(f"FEVE per valid neuron{_left_out(hidden)}", fontsize=FONT)
    return figure_of(axes)


def distributions(
    groups: Mapping[str, pd.DataFrame],
    *,
    note: str = "",
    ax: Axes | None = None,
    colours: Mapping[str, str] = COLOURS,
) -> Figure:
    """Distributions of FEVE over valid neurons, with means; neurons are not paired.

    `groups` are rows of the neurons table by what they are called. Other parameters are those of
    `feve_per_block`.
    """
    axes, labels, hidden = axes_of(ax), [], 0
    for position, (name, rows) in enumerate(groups.items()):
        feve = valid(rows)["feve"].dropna().to_numpy(dtype=np.float64)
        labels.append(wrapped(f"{name}, n = {len(feve)}", _LABEL))
        if len(feve):
            tone = shades([rows.iloc[0].to_dict()], {**COLOURS, **colours})[0]
            hidden += draw_violin(axes, position, feve, tone)
    axes.set_yticks(range(len(labels)), labels, fontsize=FONT)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.set_xlabel(f"FEVE per valid neuron{_left_out(hidden)}", fontsize=FONT)
    title(axes, ax, "Distributions of FEVE (◆ mean)", note)
    return figure_of(axes)


def best_block_bars(
    neurons: pd.DataFrame,
    *,
    note: str = "",
    ax: Axes | None = None,
    colours: Mapping[str, str] = COLOURS,
) -> Figure:
    """Mean FEVE at the best block, chosen on validation; the test-chosen one as an open marker.

    Error bars are 95 % intervals over neurons; published values are stars.
    """
    axes, bars = axes_of(ax), _at_best(neurons)
    published = False
    for position, (bar, tone) in enumerate(zip(bars, _tones(bars, colours), strict=True)):
        draw_bar(axes, position, bar.feve, tone)
        axes.plot(bar.row["test_mean_feve"], position + 0.22, "o", mfc="white", mec="black", ms=5)
        for point in published_for(bar.row):
            published = True
            axes.plot(point.feve, position, "*", color="white", mec="0.2", ms=12)
    _finish(axes, ax, bars, "Mean FEVE at the best block (chosen on validation)", note)
    axes.set_xlabel(f"FEVE, {INTERVAL}", fontsize=FONT)
    if bars:
        dots = {"block chosen on test": _dot("o", 5)}
        if published:
            dots["published values"] = _dot("*", 12)
        axes.legend(
            dots.values(), dots, loc="lower left", bbox_to_anchor=(0, 1), ncols=2,
            frameon=False, fontsize=FONT, borderpad=0,
        )  # fmt: skip
    return figure_of(axes)


def feve_by_tuning(
    neurons: pd.DataFrame,
    *,
    note: str = "",
    ax: Axes | None = None,
    colours: Mapping[str, str] = COLOURS,
) -> Figure:
    """Mean FEVE of frozen, last 0, last 1, ... full, each at one block, for what was tuned.

    A group of bars for each block that tuned conditions read, and for each backbone, kind of
    tokens, solver and seed. Error bars are 95 % intervals over neurons.
    """
    axes = axes_of(ax)
    groups = _groups(neurons)
    columns = [*SERIES, "block"]
    told, _ = telling((bar.row for group in groups for bar in group), columns)
    apart = [name for name in told if name not in ("tuning", "protocol")]
    bars: list[_Bar] = []
    places: list[float] = []
    for group in groups:
        # A group has its name once, above its bars.
        first = (places[-1] + 1 if places else 0.0) + (0.8 if apart else 0)
        if apart:
            name = describe(group[0].row, apart)
            axes.annotate(
                name, (0, first - 0.5), xytext=(3, 3), textcoords="offset points", fontsize=FONT
            )
        places += [first + k for k in range(len(group))]
        bars += group
    for place, bar, tone in zip(places, bars, _tones(bars, colours), strict=True):
        draw_bar(axes, place, bar.feve, tone)
        for point in published_for(bar.row):
            if point.block == bar.row["block"]:
                axes.plot(point.feve, place, "*", color="white", mec="0.2", ms=12)
    told = [name for name in told if name not in apart]
    _finish(axes, ax, bars, "Tuned against frozen, at one block", note, places=places, told=told)
    axes.set_xlabel(f"FEVE, {INTERVAL}", fontsize=FONT)
    return figure_of(axes)


def draw_violin(axes: Axes, position: float, feve: NDArray[np.float64], tone: str) -> int:
    """A distribution and its mean, lying; how many values lie below what is drawn."""
    shown = feve[feve >= LOWEST_FEVE]
    if len(np.unique(shown)) > 1:
        drawn = axes.violinplot(
            shown, [position], orientation="horizontal", widths=0.8, showextrema=False
        )
        for body in drawn["bodies"]:  # type: ignore[attr-defined]
            body.set(facecolor=tone, alpha=0.6)
    elif len(shown):
        axes.plot(shown, np.full(len(shown), position), "o", color=tone)
    mean = feve.mean()
    axes.plot(mean, position, "D", color="black", markersize=4)
    axes.annotate(
        f"{mean:.3f}", (mean, position), xytext=(0, 5), textcoords="offset points",
        ha="center", fontsize=FONT,
    )  # fmt: skip
    return len(feve) - len(shown)


def _left_out(hidden: int) -> str:
    return f"\n({hidden} values below {LOWEST_FEVE} are in the means alone)" if hidden else ""


def draw_bar(axes: Axes, position: float, feve: NDArray[np.float64], tone: str) -> None:
    """A mean and its interval, lying."""
    mean, (low, high) = feve.mean(), interval(feve)
    axes.barh(position, mean, color=tone, height=0.7)
    error = [[mean - low], [high - mean]]
    axes.errorbar(mean, position, xerr=error, linestyle="none", **ERROR_BARS)


def _tones(bars: list[_Bar], colours: Mapping[str, str]) -> list[str]:
    """Colours of kinds; those of a kind are alike where their labels stand beside them."""
    alone = {name: colours.get(name, tone) for name, tone in COLOURS.items()}
    return [shades([bar.row], alone)[0] for bar in bars]


def _dot(shape: str, size: float) -> Line2D:
    return Line2D([], [], marker=shape, ms=size, mfc="white", mec="0.2", linestyle="none")


def _at_best(neurons: pd.DataFrame) -> list[_Bar]:
    """Every series at its best block."""
    scored = valid(neurons).dropna(subset=["feve"])
    return [
        _Bar(row, rows_of(scored, row)["feve"].to_numpy(dtype=np.float64))
        for row in best_blocks(neurons).to_dict("records")
    ]


def _groups(neurons: pd.DataFrame) -> list[list[_Bar]]:
    """Frozen and tuned conditions that differ in nothing else, the least tuned first."""
    scored = valid(neurons).dropna(subset=["feve"])
    scored = scored[scored["block"].notna()]
    shared = [*(name for name in SERIES if name not in ("tuning", "protocol")), "block", "blocks"]
    found = []
    for values, rows in scored.groupby(shared, dropna=False, sort=False):
        if rows["tuning"].isin(FROZEN).all():
            continue
        identity = dict(zip(shared, values, strict=True))
        bars = [
            _Bar({**identity, "tuning": t, "protocol": p}, each["feve"].to_numpy(dtype=np.float64))
            for (t, p), each in rows.groupby(["tuning", "protocol"], dropna=False, sort=False)
        ]
        found.append(sorted(bars, key=lambda bar: _depth(str(bar.row["tuning"]))))
    return found


def _depth(tuning: str) -> float:
    """Tuned layers, for the order of bars."""
    number = tuning.removeprefix("last")
    return float(number) if number.isdigit() else -1.0 if tuning == "frozen" else np.inf


def _finish(
    axes: Axes,
    ax: Axes | None,
    bars: list[_Bar],
    heading: str,
    note: str,
    *,
    places: list[float] | None = None,
    told: list[str] | None = None,
) -> None:
    """Labels, with what all bars share in the title."""
    if not bars:
        say_empty(axes, "no valid neuron has a FEVE")
        axes.set_yticks([])
    rows = [bar.row for bar in bars]
    varied, shared = telling(rows, [*SERIES, "block"])
    names = told or varied or ["tuning"]
    counts = [len(bar.feve) for bar in bars]
    same = len(set(counts)) == 1
    labels = [
        wrapped(describe(row, names) + ("" if same else f", n = {n}"), _LABEL)
        for row, n in zip(rows, counts, strict=True)
    ]
    where = list(range(len(bars))) if places is None else places
    axes.set_yticks(where, labels, fontsize=FONT)
    if bars:
        axes.set_ylim(max(where) + 0.6, min(where[0] - 1.3 if places else -0.6, -0.6))
    axes.axvline(0, color="0.8", linewidth=0.8, zorder=0)
    title(axes, ax, heading, shared, f"n = {counts[0]}" if same else "", note)
    if bars:
        # Bars are evenly spaced, so the longest label sets the room of each.
        most = max(1.6, 1.4 + max(label.count("\n") for label in labels))
        heighten(axes, ax, most * (max(where) + 1))
