"""Figures, drawn from the result tables alone."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.results import write_if_changed

FEVE_PER_BLOCK = "figures/feve_per_block.png"

#: Okabe and Ito's colours, told apart with any colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def feve_per_block(summary: pd.DataFrame, *, note: str = "") -> Figure:
    """Mean FEVE of the frozen conditions against the block they read.

    Parameters
    ----------
    summary : data frame
        The summary table; conditions without a block are left out.
    note : str
        A remark below the title, such as that the weights are random.

    Returns
    -------
    Figure
        One line for each recording, model, input size, solver, seed and kind of tokens; error bars
        are the s.e.m. over valid neurons, whose number stands in the legend.
    """
    frozen = summary[(summary["tuning"] == "frozen") & summary["block"].notna()]
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    identity = ["recording", "model", "input_size", "solver", "seed"]
    varying = [name for name in identity if frozen[name].nunique() > 1]
    lines = list(frozen.groupby([*identity, "tokens"], sort=False, dropna=False))
    for number, (values, rows) in enumerate(lines):
        names = dict(zip([*identity, "tokens"], values, strict=True))
        label = ", ".join([*(_label(n, names[n]) for n in varying), f"{names['tokens']} tokens"])
        _line(axes, rows.sort_values("block"), label=label, number=number)
    axes.set_xlabel("transformer block (0-based)")
    axes.set_ylabel("FEVE, mean ± s.e.m. over valid neurons")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    fixed = [_label(n, frozen[n].iloc[0]) for n in identity if n not in varying and len(frozen)]
    axes.set_title(
        "Frozen backbone: FEVE per block\n" + ", ".join([*fixed, note] if note else fixed),
        fontsize=10,
    )
    if lines:
        axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, where its content is new."""
    content = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "vitv1"}):
        figure.savefig(content, format="png", dpi=200, metadata={"Software": "vitv1"})
    write_if_changed(path, content.getvalue())


def _line(axes: Axes, rows: pd.DataFrame, *, label: str, number: int) -> None:
    counts = sorted(set(rows["n_valid"]))
    n_valid = str(counts[0]) if len(counts) == 1 else f"{counts[0]}-{counts[-1]}"
    axes.errorbar(
        rows["block"].to_numpy(dtype=float),
        rows["mean_feve"].to_numpy(dtype=float),
        yerr=rows["sem_feve"].to_numpy(dtype=float),
        label=f"{label} (n = {n_valid})",
        color=COLOURS[number % len(COLOURS)],
        marker=MARKERS[number % len(MARKERS)],
        markersize=5,
        capsize=2,
    )


def _label(name: str, value: object) -> str:
    return f"seed {value}" if name == "seed" else str(value)
