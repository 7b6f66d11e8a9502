"""Style of all figures: colours, markers, titles and legends, and how they are saved."""

from __future__ import annotations

import io
import textwrap
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from pipeline.results.tables import write_if_changed

#: Okabe and Ito's colours, told apart with any colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

#: Above this many neurons points are drawn as pixels inside vector figures.
MANY_POINTS = 2000

#: FEVE is drawn down to here; a badly predicted neuron may have any negative value.
LOWEST_FEVE = -0.5

#: Dots per inch of the PNG files.
DPI = 200

#: Room for a legend beside the axes, in inches.
LEGEND_WIDTH = 3.4


def new_figure(width: float = 7.0, height: float = 4.5) -> tuple[Figure, Axes]:
    """A figure with one pair of axes, without the box's upper and right side."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def save_figure(figure: Figure, stem: Path) -> Path:
    """Write a figure as PNG and SVG, each only where its content is new; the path of the PNG."""
    with mpl.rc_context({"svg.hashsalt": "vitv1", "svg.fonttype": "none"}):
        # Names are data: none is a formula because it has a "$".
        for text in figure.findobj(Text):
            text.set_parse_math(False)
        for kind, metadata in (("png", {"Software": "vitv1"}), ("svg", {"Date": None})):
            content = io.BytesIO()
            figure.savefig(content, format=kind, dpi=DPI, metadata=metadata)
            write_if_changed(stem.with_suffix(f".{kind}"), content.getvalue())
    return stem.with_suffix(".png")


def colour(number: int) -> str:
    """The number-th colour; they repeat after eight, markers do so too but line styles tell."""
    return COLOURS[number % len(COLOURS)]


def marker(number: int) -> str:
    """The number-th marker."""
    return MARKERS[number % len(MARKERS)]


def title(axes: Axes, first: str, *rest: str) -> None:
    """A title with what is fixed in the figure on a second, smaller line."""
    # Lines break between the parts, not inside "seed 0".
    said = ", ".join(part for part in rest if part)
    unbroken = ", ".join(part.replace(" ", "\N{NO-BREAK SPACE}") for part in said.split(", "))
    second = textwrap.fill(unbroken, width=72).replace("\N{NO-BREAK SPACE}", " ")
    axes.set_title("\n".join(part for part in (first, second) if part), fontsize=10)


def legend(axes: Axes) -> None:
    """A legend where there is something to name, beside the axes where it would cover them."""
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) > 4:
        width, height = axes.figure.get_size_inches()  # type: ignore[union-attr]
        axes.figure.set_size_inches(width + LEGEND_WIDTH, height)  # type: ignore[union-attr]
        axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1.0))
    elif handles:
        axes.legend(frameon=False, fontsize=8)


def say_empty(axes: Axes, what: str) -> None:
    """Words where there is nothing to draw."""
    axes.text(0.5, 0.5, what, ha="center", va="center", transform=axes.transAxes, color="0.4")
