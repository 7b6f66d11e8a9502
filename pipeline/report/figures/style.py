"""Style of all figures: size, font, colours, titles and legends, and how they are saved."""

from __future__ import annotations

import io
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal, Stroke
from matplotlib.text import Text

from pipeline.results.tables import write_if_changed

#: Width and height of every figure, inches; one with a longer list is higher by whole rows.
SIZE = (7.2, 4.5)

#: Points of all text.
FONT = 9

#: A colour for every kind of condition (`kind_of`), of those of Okabe and Ito, which are told
#: apart with any colour vision. Several conditions of a kind have shades of it.
COLOURS: Mapping[str, str] = {
    "frozen": "#0072B2",
    "last0": "#767676",
    "last": "#D55E00",
    "full": "#CC79A7",
    "cnn": "#009E73",
}

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

#: Above this many neurons points are drawn as pixels inside vector figures.
MANY_POINTS = 2000

#: FEVE is drawn down to here; a badly predicted neuron may have any negative value.
LOWEST_FEVE = -0.5

#: Dots per inch of the PNG files.
DPI = 200

#: Error bars are black with a white rim, which is seen on any colour.
ERROR_BARS: Mapping[str, Any] = {
    "ecolor": "black",
    "elinewidth": 1.2,
    "capsize": 2.5,
    "path_effects": [Stroke(linewidth=3, foreground="white"), Normal()],
}

#: What error bars are, in the words of the axis.
INTERVAL = "mean and 95 % interval over valid neurons"

#: What a legend names, an artist or a container of several, and its name.
Entry = tuple[Any, str]

#: Characters in the whole width, and in a label beside the axes.
_WIDE, _NARROW = 100, 30


def kind_of(condition: Mapping[Any, Any]) -> str:
    """The kind of a condition, a key of `COLOURS`."""
    if str(condition["model"]).startswith("cnn_"):
        return "cnn"
    tuning = str(condition["tuning"])
    return tuning if tuning in COLOURS else "last"


def shades(
    conditions: Sequence[Mapping[Any, Any]],
    colours: Mapping[str, str] = COLOURS,
    *,
    darkest: float = 0.4,
) -> list[str]:
    """A colour for each condition: that of its kind, from dark to light where several share it.

    `darkest` is how far the first goes towards black: not at all where the ground may be dark.
    """
    kinds = [kind_of(condition) for condition in conditions]
    counts, seen, found = Counter(kinds), Counter[str](), []
    for kind in kinds:
        n, k = counts[kind], seen[kind]
        seen[kind] += 1
        # Towards black below 0, towards white above.
        amount = 0.0 if n == 1 else np.linspace(-darkest if n > 2 else 0.0, 0.55, n)[k]
        end = np.zeros(3) if amount < 0 else np.ones(3)
        rgb = np.array(to_rgb({**COLOURS, **colours}[kind]))
        found.append(to_hex(tuple(rgb + (end - rgb) * abs(amount))))
    return found


def axes_of(ax: Axes | None) -> Axes:
    """The axes that were given, or those of a new figure, without the upper and right side."""
    if ax is None:
        ax = Figure(figsize=SIZE, layout="constrained").add_subplot()
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=FONT)
    return ax


def panels_of(
    ax: Axes | None, rows: int, columns: int, **options: Any
) -> tuple[Figure, list[Axes]]:
    """Panels in a new figure, or in the place of axes that were given.

    Raises
    ------
    ValueError
        The axes have no place in a grid, as those of `figure.subplots` have.
    """
    if ax is None:
        figure = Figure(figsize=SIZE, layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False, **options)
    else:
        figure, place = figure_of(ax), ax.get_subplotspec()
        if place is None:
            raise ValueError("several panels need axes of a grid: make them with plt.subplots")
        ax.set_axis_off()
        grid = place.subgridspec(rows, columns).subplots(squeeze=False, **options)
    found = list(grid.flat)
    for axes in found:
        axes.tick_params(labelsize=FONT)
    return figure, found


def figure_of(axes: Axes) -> Figure:
    """The figure that axes lie in."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    return figure


def heighten(axes: Axes, ax: Axes | None, lines: float) -> None:
    """Make a figure of our own higher where it holds more lines of text than fit."""
    room = SIZE[1] - 1.4
    needed = lines * FONT * 1.35 / 72
    figure = figure_of(axes)
    if ax is None and SIZE[1] + needed - room > figure.get_figheight():
        figure.set_figheight(SIZE[1] + needed - room)


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


def marker(number: int) -> str:
    """The number-th marker; they repeat after eight."""
    return MARKERS[number % len(MARKERS)]


def wrapped(text: str, width: int = _NARROW) -> str:
    """A text in lines that break between the parts of a list, and inside longer parts."""
    lines: list[str] = []
    for part in text.split(", "):
        joined = f"{lines[-1]}, {part}" if lines else part
        if lines and len(joined) <= width:
            lines[-1] = joined
        else:
            lines[-1:] = [f"{line}," for line in lines[-1:]]
            lines += textwrap.wrap(part, width) or [""]
    return "\n".join(lines)


def title(axes: Axes, ax: Axes | None, first: str, *rest: str) -> None:
    """A heading, and on further lines what all in the figure share."""
    said = ", ".join(part for part in rest if part)
    if ax is not None:
        lines = [wrapped(first, 60), wrapped(said, 60)]
        axes.set_title("\n".join(filter(None, lines)), fontsize=FONT, loc="left")
        return
    text = "\n".join(filter(None, [wrapped(first, _WIDE), wrapped(said, _WIDE)]))
    figure_of(axes).suptitle(text, fontsize=FONT, x=0.01, ha="left")


def legend(
    axes: Axes,
    ax: Axes | None,
    entries: Iterable[Entry] | None = None,
    *,
    loc: str | None = None,
) -> None:
    """A legend beside the axes, where there is something to name.

    Parameters
    ----------
    entries : iterable of Entry, optional
        Names may be any text.
    loc : str, optional
        A place in a figure of our own that has several panels.
    """
    named = list(entries or [])
    if not named:
        return
    # matplotlib leaves out labels that begin with "_".
    texts = [f"\N{NO-BREAK SPACE}{text}" if text[:1] == "_" else text for _, text in named]
    labels = [wrapped(text) for text in texts]
    handles = [artist for artist, _ in named]
    options: dict[str, Any] = {"frameon": False, "fontsize": FONT}
    if ax is not None:
        axes.legend(handles, labels, loc="best", **options)
        return
    heighten(axes, ax, 1.2 * sum(1 + label.count("\n") for label in labels))
    if loc is not None:
        figure_of(axes).legend(handles, labels, **options, loc=loc)  # type: ignore[call-overload]
    else:
        options |= {"loc": "upper left", "bbox_to_anchor": (1.02, 1), "borderaxespad": 0}
        axes.legend(handles, labels, **options)


def say_empty(axes: Axes, what: str) -> None:
    """Words where there is nothing to draw."""
    axes.text(
        0.5, 0.5, what, ha="center", va="center", transform=axes.transAxes, color="0.4",
        fontsize=FONT,
    )  # fmt: skip
