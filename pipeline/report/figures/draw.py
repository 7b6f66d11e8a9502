"""The figures of a run, chosen by what its tables hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from pipeline.report.figures.best_block import best_block_bars, best_block_violins
from pipeline.report.figures.maps import centres_over_cortex, spatial_maps
from pipeline.report.figures.neurons import feve_against_fev, learning_curves, scatter
from pipeline.report.figures.per_block import feve_per_block, models_per_block, tuned_per_block
from pipeline.report.figures.style import save_figure
from pipeline.report.key import FIGURES_FOLDER
from pipeline.results.names import describe, varying
from pipeline.results.statistics import SERIES, best_blocks, reference, rows_of
from stages.conditions import IDENTITY, Condition
from stages.readouts import saved_readouts

#: Every figure's file name and what it shows.
FIGURES = {
    "feve_per_block": "FEVE per block, frozen backbone, patch and CLS tokens",
    "feve_per_block_tuned": "FEVE per block, frozen and tuned",
    "feve_per_block_models": "FEVE per block, backbones compared, frozen",
    "feve_per_block_models_tuned": "FEVE per block, backbones compared, frozen and tuned",
    "best_block_violins": "FEVE of the neurons at each condition's best block",
    "best_block_bars": "Mean FEVE at each condition's best block",
    "feve_against_fev": "FEVE against FEV, best condition",
    "best_two_conditions": "The two best series of conditions, neuron by neuron",
    "best_tuned_against_reference": "The best tuned condition against its reference at that block",
    "spatial_maps": "Spatial weights of the best explained neurons",
    "centres_over_cortex": "Receptive-field centres over cortical position",
    "learning_curves": "Learning curves",
}


@dataclass(frozen=True)
class Tables:
    """The result tables of a run."""

    run: Path
    neurons: pd.DataFrame
    summary: pd.DataFrame
    curves: pd.DataFrame

    @property
    def note(self) -> str:
        """A remark that every figure must make of these results; empty where there is none."""
        return "random weights" if (self.neurons["weights"] == "random").any() else ""


def draw_figures(tables: Tables, *, progress: Callable[[int], None] | None = None) -> list[Path]:
    """Draw all `wanted_figures`, calling `progress` with 1 after each; the PNG files."""
    paths = []
    for name, draw in wanted_figures(tables):
        paths.append(save_figure(draw(), tables.run / FIGURES_FOLDER / name))
        if progress is not None:
            progress(1)
    return paths


def wanted_figures(tables: Tables) -> Iterator[tuple[str, Callable[[], Figure]]]:
    """Names and drawing functions of the figures that apply."""
    summary, neurons, note = tables.summary, tables.neurons, tables.note
    with_block = summary[summary["block"].notna()]
    tuned = (summary["tuning"] != "frozen").any()
    if len(with_block):
        yield "feve_per_block", partial(feve_per_block, summary, note=note)
        if tuned:
            yield "feve_per_block_tuned", partial(tuned_per_block, summary, note=note)
    if with_block["model"].nunique() > 1:
        yield "feve_per_block_models", partial(models_per_block, summary, note=note)
        if tuned:
            both = partial(models_per_block, summary, tunings=None, note=note)
            yield "feve_per_block_models_tuned", both
    yield "best_block_violins", partial(best_block_violins, neurons, note=note)
    yield "best_block_bars", partial(best_block_bars, neurons, note=note)
    yield from _of_best(tables)
    if len(tables.curves):
        yield "learning_curves", partial(learning_curves, tables.curves, note=note)


def _of_best(tables: Tables) -> Iterator[tuple[str, Callable[[], Figure]]]:
    """Figures of the best condition, and of it against the next best series."""
    best, note = best_blocks(tables.neurons), tables.note
    if best.empty:
        return
    order = best.sort_values("mean_feve", ascending=False).to_dict("records")
    top = rows_of(tables.neurons, order[0])
    yield "feve_against_fev", partial(feve_against_fev, top, note=note)
    if len(order) > 1:
        names = [*varying(order, SERIES), "block"]
        other = rows_of(tables.neurons, order[1])
        told = (describe(order[1], names), describe(order[0], names))
        yield "best_two_conditions", partial(scatter, other, top, names=told, note=note)
    for row in order:
        against = reference(tables.neurons, row)
        if against is not None:
            names = [*varying([against, row], SERIES), "block"]
            other, tuned = (rows_of(tables.neurons, each) for each in (against, row))
            told = (describe(against, names), describe(row, names))
            draw = partial(scatter, other, tuned, names=told, note=note)
            yield "best_tuned_against_reference", draw
            break
    with_maps = [row for row in order if pd.notna(row["block"]) and row["tokens"] == "patch"]
    if with_maps:
        rows = rows_of(tables.neurons, with_maps[0])
        condition = Condition.from_row(rows.iloc[0].to_dict())
        readouts = saved_readouts(tables.run, condition)
        height, width = (int(n) for n in condition.input_size.split("x"))
        said = ", ".join(filter(None, [describe(condition.identity(), IDENTITY), note]))
        size = (height, width)
        yield "spatial_maps", partial(spatial_maps, readouts, rows, input_size=size, note=said)
        if rows[["x", "y"]].notna().all(axis=1).any():
            cortex = partial(centres_over_cortex, readouts, rows, input_size=size, note=said)
            yield "centres_over_cortex", cortex
