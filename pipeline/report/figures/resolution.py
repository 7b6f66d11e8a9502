"""The figure of FEVE against the pixels from token to token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

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
from pipeline.results.names import describe, telling
from pipeline.results.resolution import line_of
from pipeline.results.statistics import NORMAL_95
from stages.backbones import unsampled
from stages.conditions import JOINED

#: What tells lines apart, besides how a backbone is sampled.
_TOLD = ("recording", "model", "tuning", "protocol", "solver", "seed")


def feve_by_resolution(
    resolution: pd.DataFrame,
    *,
    note: str = "",
    ax: Axes | None = None,
    colours: Mapping[str, str] = COLOURS,
) -> Figure:
    """Mean FEVE of every backbone at each spacing of its tokens; those without tokens lie across.

    Error bars are 95 % intervals over valid neurons (1.96 s.e.m.). Parameters are those of
    `feve_per_block`, but `resolution`, the table of `pipeline.results.resolution.resolutions`.
    """
    axes = axes_of(ax)
    lines: dict[tuple[object, ...], list[dict[Any, Any]]] = {}
    for row in resolution.to_dict("records"):
        lines.setdefault(line_of(row), []).append(row)
    named = [_named(rows[0]) for rows in lines.values()]
    told, shared = telling(named, [*_TOLD, "how"])
    entries: list[Entry] = []
    tones = shades([rows[0] for rows in lines.values()], colours)
    for number, (rows, name, tone) in enumerate(zip(lines.values(), named, tones, strict=True)):
        rows.sort(key=lambda row: row["pixels_per_token"])
        pixels, feve, sem = np.array(
            [[row[n] for n in ("pixels_per_token", "mean_feve", "sem_feve")] for row in rows],
            dtype=float,
        ).T
        if np.isnan(pixels).all():
            drawn: Any = axes.axhline(feve[0], color=tone, linestyle="--")
        else:
            drawn = axes.errorbar(
                pixels,
                feve,
                yerr=NORMAL_95 * sem,
                color=tone,
                marker=marker(number),
                markersize=6,
                **{**ERROR_BARS, "ecolor": tone},
            )
        entries.append((drawn, describe(name, told or ["model"])))
    if resolution.empty:
        say_empty(axes, "no experiment sweeps how finely tokens lie")
    else:
        spacings = sorted(set(resolution["pixels_per_token"].dropna()))
        axes.set_xscale("log", base=2)
        axes.set_xticks(spacings, [f"{each:g}" for each in spacings])
        axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("pixels from token to token: finer tokens are on the left", fontsize=FONT)
    axes.set_ylabel(f"FEVE, {INTERVAL}", fontsize=FONT)
    axes.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    counts = sorted({int(n) for n in resolution["n_neurons"]})
    said = f"n = {counts[0]}" if len(counts) == 1 else ""
    title(
        axes, ax, "FEVE against pixels per token (blocks chosen on validation)", shared, said, note
    )
    legend(axes, ax, entries)
    return figure_of(axes)


def _named(row: Mapping[Any, Any]) -> dict[Any, Any]:
    """A row with its backbone by its name alone, and `how` it is sampled."""
    model = str(row["model"])
    if JOINED in model:
        # Sources of a combination differ in how they are sampled.
        return {**row, "how": None}
    how = "by stride" if "+stride" in model else "by patch size" if "+patch" in model else None
    return {**row, "model": unsampled(model), "how": how}
