"""The figures of a run, chosen by what its tables hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from pipeline.report.figures.agreement import agreeing, score_agreement
from pipeline.report.figures.best_block import (
    best_block_bars,
    best_block_violins,
    feve_by_tuning,
)
from pipeline.report.figures.curves import learning_curves, telling_curves
from pipeline.report.figures.maps import centres_over_cortex, spatial_maps
from pipeline.report.figures.neurons import feve_against_fev, scatter
from pipeline.report.figures.per_block import feve_per_block, models_per_block, tuned_per_block
from pipeline.report.figures.resolution import feve_by_resolution
from pipeline.report.figures.style import save_figure
from pipeline.report.key import FIGURES_FOLDER
from pipeline.results.names import describe, telling
from pipeline.results.resolution import NO_RESOLUTION
from pipeline.results.statistics import FROZEN, SERIES, best_blocks, reference, rows_of
from stages.conditions import IDENTITY, Condition
from stages.readouts import saved_places, saved_readouts

#: Every figure's file name and what it shows.
FIGURES = {
    "feve_by_resolution": "FEVE against pixels per token, at the blocks that validation chooses",
    "feve_per_block": "FEVE per block, frozen backbone, patch and CLS tokens",
    "feve_per_block_tuned": "FEVE per block, frozen and tuned",
    "feve_by_tuning": "FEVE by the number of tuned layers, each at one block",
    "feve_per_block_models": "FEVE per block, backbones compared, frozen, or beside a CNN",
    "best_block_violins": "FEVE of the neurons at each condition's best block",
    "best_block_bars": "Mean FEVE at each condition's best block",
    "feve_against_fev": "FEVE against FEV, best condition",
    "score_agreement": "Scores that other work reports against FEVE, best condition",
    "best_two_conditions": "The two best series of conditions, neuron by neuron",
    "best_tuned_against_reference": "The best tuned condition against its reference at that block",
    "spatial_maps": "Spatial weights of the best explained neurons",
    "centres_over_cortex": "Receptive-field centres over cortical position",
    "learning_curves": "Learning curves",
}

#: Figures that earlier versions drew.
FORMER = frozenset({"feve_per_block_models_tuned"})


@dataclass(frozen=True)
class Tables:
    """The result tables of a run."""

    run: Path
    neurons: pd.DataFrame
    summary: pd.DataFrame
    curves: pd.DataFrame
    resolution: pd.DataFrame = field(default_factory=NO_RESOLUTION.copy)

    @property
    def note(self) -> str:
        """A remark that every figure must make of these results; empty where there is none."""
        random = self.neurons[self.neurons["weights"] == "random"]
        # Where an experiment has several weights, the models' names tell.
        named = random["model"].str.endswith("+random")
        return "random weights" if len(random) and not named.all() else ""


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
    tuned = with_block[~with_block["tuning"].isin(FROZEN)]
    blocks = partial(_per_block, tables)
    if len(tables.resolution):
        yield "feve_by_resolution", partial(feve_by_resolution, tables.resolution, note=note)
    if (with_block["tuning"] == "frozen").any():
        yield "feve_per_block", blocks(feve_per_block)
    if tuned["block"].nunique() > 1:
        yield "feve_per_block_tuned", blocks(tuned_per_block)
    if len(tuned):
        yield "feve_by_tuning", partial(feve_by_tuning, neurons, note=note)
    if with_block["model"].nunique() > 1:
        yield "feve_per_block_models", blocks(models_per_block)
    yield "best_block_violins", partial(best_block_violins, neurons, note=note)
    yield "best_block_bars", partial(best_block_bars, neurons, note=note)
    yield from _of_best(tables)
    if len(telling_curves(tables.curves)):
        yield "learning_curves", partial(learning_curves, tables.curves, note=note)


def _per_block(tables: Tables, draw: Callable[..., Figure]) -> Callable[[], Figure]:
    return partial(draw, tables.summary, chosen=best_blocks(tables.neurons), note=tables.note)


def _pair(
    tables: Tables, first: Mapping[Any, Any], second: Mapping[Any, Any]
) -> Callable[[], Figure]:
    """A scatter of two conditions: on the axes how they differ, in the title what they share."""
    columns = [*SERIES, "block"]
    told, shared = telling([first, second], columns)
    names = (describe(first, told or ["tuning"]), describe(second, told or ["tuning"]))
    note = ", ".join(filter(None, [shared, tables.note]))
    rows = (rows_of(tables.neurons, each) for each in (first, second))
    return partial(scatter, *rows, names=names, note=note)


def _of_best(tables: Tables) -> Iterator[tuple[str, Callable[[], Figure]]]:
    """Figures of the best condition, and of it against the next best series."""
    best, note = best_blocks(tables.neurons), tables.note
    if best.empty:
        return
    order = best.sort_values("mean_feve", ascending=False).to_dict("records")
    top = rows_of(tables.neurons, order[0])
    yield "feve_against_fev", partial(feve_against_fev, top, note=note)
    if agreeing(top):
        yield "score_agreement", partial(score_agreement, top, note=note)
    rivals = [row for row in order[1:] if row["recording"] == order[0]["recording"]]
    if rivals:
        yield "best_two_conditions", _pair(tables, rivals[0], order[0])
    for row in order:
        against = reference(tables.neurons, row)
        if against is not None:
            yield "best_tuned_against_reference", _pair(tables, against, row)
            break
    with_maps = [row for row in order if pd.notna(row["block"]) and row["tokens"] == "patch"]
    if with_maps:
        rows = rows_of(tables.neurons, with_maps[0])
        condition = Condition.from_row(rows.iloc[0].to_dict())
        readouts = saved_readouts(tables.run, condition)
        said = ", ".join(filter(None, [describe(condition.identity(), IDENTITY), note]))
        places = saved_places(tables.run, condition)
        figures = {"spatial_maps": spatial_maps}
        if rows[["x", "y"]].notna().all(axis=1).any():
            figures["centres_over_cortex"] = centres_over_cortex
        for name, draw in figures.items():
            size = condition.size
            yield name, partial(draw, readouts, rows, input_size=size, places=places, note=said)
