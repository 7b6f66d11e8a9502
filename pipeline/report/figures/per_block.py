"""Figures of mean FEVE against the block that is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pipeline.report.figures.published import published_for
from pipeline.report.figures.style import (
    COLOURS,
    ERROR_BARS,
    FONT,
    INTERVAL,
    Entry,
    axes_of,
    figure_of,
    legend,
    marker,
    say_empty,
    shades,
    title,
)
from pipeline.results.names import describe, known, telling
from pipeline.results.statistics import FROZEN, NORMAL_95, SERIES

#: What a tuned series has in common with the frozen one that it started from.
_STARTS = ["recording", "model", "input_size", "tokens", "solver", "seed"]

#: Blocks that have room for a number each.
_NUMBERED = 26


def feve_per_block(
    summary: pd.DataFrame,
    *,
    chosen: pd.DataFrame | None = None,
    note: str = "",
    ax: Axes | None = None,
    colours: Mapping[str, str] = COLOURS,
) -> Figure:
    """Frozen conditions of a summary table: one line for patch and one for CLS tokens.

    Error bars are 95 % intervals over valid neurons (1.96 s.e.m.).

    Parameters
    ----------
    summary : data frame
        The summary table.
    chosen : data frame, optional
        Rows of `best_blocks`, whose blocks are marked.
    note : str
        A remark below the title.
    ax : Axes, optional
        Where to draw; a new figure by default.
    colours : mapping
        Colours by kind of condition, as in `COLOURS`; those that are absent stay.
    """
    frozen = summary[summary["tuning"] == "frozen"]
    return _figure(frozen, "Frozen backbone: FEVE per block", chosen, note, ax, colours)


def tuned_per_block(
    summary: pd.DataFrame,
    *,
    chosen: pd.DataFrame | None = None,
    note: str = "",
    ax: Axes | None = None,
    colours: Mapping[str, str] = COLOURS,
) -> Figure:
    """Tuned backbones, and of the frozen ones those that they started from."""
    with_block = summary[summary["block"].notna()]
    trained = ~with_block["tuning"].isin(FROZEN)
    tuned = set(map(known, with_block.loc[trained, _STARTS].to_numpy()))
    shown = with_block[[known(start) in tuned for start in with_block[_STARTS].to_numpy()]]
    return _figure(shown, "Frozen and tuned backbones: FEVE per block", chosen, note, ax, colours)


def models_per_block(
    summary: pd.DataFrame,
    *,
    tunings: Sequence[str] | None = FROZEN,
    chosen: pd.DataFrame | None = None,
    note: str = "",
    ax: Axes | None = None,
    colours: Mapping[str, str] = COLOURS,
) -> Figure:
    """Models against each other, for the given tunings (all of them for None), patch tokens.

    By default frozen, alone and beside a CNN's core.
    """
    shown = summary[summary["tokens"] == "patch"]
    if tunings is not None:
        shown = shown[shown["tuning"].isin(tunings)]
    found = set(shown["tuning"])
    what = ["frozen", *(["and beside a CNN"] if "core" in found else [])]
    what += ["and tuned"] if found - set(FROZEN) else []
    heading = f"Backbones, {' '.join(what)}: FEVE per block"
    return _figure(shown, heading, chosen, note, ax, colours)


def _figure(
    table: pd.DataFrame,
    heading: str,
    chosen: pd.DataFrame | None,
    note: str,
    ax: Axes | None,
    colours: Mapping[str, str],
) -> Figure:
    # Readouts of several blocks at once have no place on this axis.
    joint = table["blocks"].astype("string").str.contains("+", regex=False, na=False)
    shown = table[table["block"].notna() & ~joint]
    axes = axes_of(ax)
    series = [
        (dict(zip(SERIES, values, strict=True)), rows.sort_values("block"))
        for values, rows in shown.groupby(SERIES, sort=False, dropna=False)
    ]
    told, shared = telling((identity for identity, _ in series), SERIES)
    marked = {} if chosen is None else _marked(chosen)
    # Which line a marked point or a published one belongs to is told by its colour.
    rings: list[Artist] = []
    published: list[Artist] = []
    entries: list[Entry] = []
    tones = shades([identity for identity, _ in series], colours)
    for number, ((identity, rows), tone) in enumerate(zip(series, tones, strict=True)):
        feve = rows["mean_feve"].to_numpy(dtype=float)
        blocks = rows["block"].to_numpy(dtype=float)
        half = NORMAL_95 * rows["sem_feve"].to_numpy(dtype=float)
        line = axes.errorbar(
            blocks,
            feve,
            yerr=half,
            color=tone,
            marker=marker(number),
            markersize=5,
            **{**ERROR_BARS, "ecolor": tone},
        )
        entries.append((line, describe(identity, told or ["tokens"])))
        best = blocks == marked.get(known(identity.values()), -1)
        if best.any():
            rings += axes.plot(blocks[best], feve[best], "o", ms=12, mfc="none", color=tone)
        for point in published_for(identity):
            where = np.nan if point.block is None else point.block
            published += axes.plot(where, point.feve, "*", ms=13, alpha=0.5, color=tone)
    if rings:
        ring = Line2D([], [], marker="o", ms=12, mfc="none", color="0.3", linestyle="none")
        entries.append((ring, "block chosen on validation"))
    if published:
        star = Line2D([], [], marker="*", ms=13, alpha=0.5, color="0.3", linestyle="none")
        entries.append((star, "published values"))
    if shown.empty:
        say_empty(axes, "no condition reads a block")
    axes.set_xlabel("transformer block (0-based)", fontsize=FONT)
    axes.set_ylabel(f"FEVE, {INTERVAL}", fontsize=FONT)
    _tick(axes, sorted({int(block) for block in shown["block"]}))
    axes.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    title(axes, ax, heading, shared, _counted(shown), note)
    legend(axes, ax, entries)
    return figure_of(axes)


def _marked(chosen: pd.DataFrame) -> dict[tuple[object, ...], float]:
    """Chosen block by series; readouts of several blocks have no place on the axis."""
    return {
        known(row[name] for name in SERIES): float(row["block"])
        for row in chosen.to_dict("records")
        if pd.notna(row["block"]) and "+" not in str(row["blocks"])
    }


def _counted(shown: pd.DataFrame) -> str:
    counts = sorted({int(n) for n in shown["n_valid"]})
    return (
        "" if not counts else "n = " + " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
    )


def _tick(axes: Axes, blocks: list[int]) -> None:
    """A tick for every block, with its number where there is room."""
    step = -(-len(blocks) // _NUMBERED)
    axes.set_xticks(blocks, [str(b) if b % max(step, 1) == 0 else "" for b in blocks])
    if len(blocks) == 1:
        axes.set_xlim(blocks[0] - 1, blocks[0] + 1)
