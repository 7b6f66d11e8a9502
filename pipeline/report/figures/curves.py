"""Learning curves, a panel for each tuning."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.report.figures.style import (
    COLOURS,
    FONT,
    axes_of,
    figure_of,
    heighten,
    legend,
    panels_of,
    say_empty,
    shades,
    title,
    wrapped,
)
from pipeline.results.names import describe, telling
from stages.conditions import IDENTITY
from stages.readouts import SOLVERS

#: More lines than this are told by their panel and shade alone.
MOST_NAMED = 14


def telling_curves(curves: pd.DataFrame) -> pd.DataFrame:
    """Curves of what learnt epoch by epoch: frozen fits of solvers that do not are left out."""
    without = {name for name, solver in SOLVERS.items() if not solver.by_epochs}
    return curves[~((curves["tuning"] == "frozen") & curves["solver"].isin(without))]


def learning_curves(
    curves: pd.DataFrame,
    *,
    note: str = "",
    ax: Axes | None = None,
    colours: Mapping[str, str] = COLOURS,
) -> Figure:
    """Validation score against epoch, a line per condition and a panel per tuning.

    Parameters are those of `feve_per_block`, but `curves`, the table of learning curves.
    """
    shown = telling_curves(curves)
    if shown.empty:
        axes = axes_of(ax)
        say_empty(axes, "no condition has a learning curve")
        title(axes, ax, "Learning curves", note)
        return figure_of(axes)
    lines = [
        (dict(zip(IDENTITY, values, strict=True)), rows)
        for values, rows in shown.groupby(list(IDENTITY), sort=False, dropna=False)
    ]
    names = [n for n in IDENTITY if n != "blocks"]
    told, shared = telling((identity for identity, _ in lines), names)
    kinds = {_panel(identity): None for identity, _ in lines}
    columns = min(3, len(kinds))
    figure, panels = panels_of(ax, -(-len(kinds) // columns), columns, sharey=True)
    places = dict(zip(kinds, panels, strict=False))
    entries = []
    for (identity, rows), tone in zip(lines, shades([i for i, _ in lines], colours), strict=True):
        entries += [
            (line, describe(identity, told or ["tuning"]))
            for line in places[_panel(identity)].plot(
                rows["epoch"].to_numpy(dtype=float),
                rows["validation_score"].to_numpy(dtype=float),
                color=tone,
            )
        ]
    for heading, axes in places.items():
        axes.set_title(wrapped(heading), fontsize=FONT)
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, nbins=5))
        axes.set_xlabel("epoch", fontsize=FONT)
    for axes in panels[::columns]:
        axes.set_ylabel("validation variance\nexplained", fontsize=FONT)
    for axes in panels[len(kinds) :]:
        axes.set_axis_off()
    title(panels[0], ax, "Learning curves: mean over neurons", shared, note)
    if len(kinds) < len(lines) <= MOST_NAMED:
        legend(panels[0], ax, entries, loc="outside right center")
    heighten(panels[0], ax, 9 * -(-len(kinds) // columns))
    return figure


def _panel(identity: Mapping[str, object]) -> str:
    """What a panel shows: a CNN, or a tuning."""
    cnn = str(identity["model"]).startswith("cnn_")
    return describe(identity, ["model"] if cnn else ["tuning"])
