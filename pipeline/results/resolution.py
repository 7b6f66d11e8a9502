"""FEVE against the pixels from token to token, where an experiment sweeps them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.results.names import describe, known
from pipeline.results.statistics import READ, SERIES, paired_difference, rows_of, valid
from stages.backbones import sampled_like, unsampled
from stages.conditions import IDENTITY, INTEGERS, Condition
from stages.readouts import saved_places

#: What is measured of a condition beside its identity.
_MEASURED = ("pixels_per_token", "val_varexp", "mean_feve", "sem_feve")

#: Against coarse tokens: what people call those, and the paired difference.
COMPARED = ("against", "difference", "low", "high", "n_neurons")

NO_RESOLUTION = pd.DataFrame(columns=[*IDENTITY, *_MEASURED, *COMPARED])

#: What a line in a figure has in common: a backbone in the same hands, whatever its resolution.
_LINE = ("recording", "tuning", "protocol", "tokens", "solver", "seed")


def token_spacing(run: Path, conditions: Sequence[Condition]) -> list[float]:
    """Pixels from token to token of every condition; NaN where it reads no grid of tokens.

    They are pixels of the smallest image that a backbone sees in these conditions: one that is
    enlarged twice has half of them between its tokens.
    """
    every = [None if c.tokens != "patch" else saved_places(run, c) for c in conditions]
    heights = [int(c.input_size.partition("x")[0]) for c in conditions]
    least = min((h for h, places in zip(heights, every, strict=True) if places), default=0)
    return [
        np.nan if places is None else max(places.stride) * least / height
        for places, height in zip(every, heights, strict=True)
    ]


def resolutions(neurons: pd.DataFrame, spacing: Mapping[Condition, float]) -> pd.DataFrame:
    """Every backbone at each spacing of its tokens, and what it is worth against the coarsest.

    Blocks are chosen on validation, of those that a backbone has at a spacing. What has no grid of
    tokens, as a CNN, has one row, and no spacing. Other rows of CLS tokens are left out.

    Returns
    -------
    data frame
        The identity columns; `pixels_per_token`; `val_varexp`, by whose mean the block was chosen,
        `mean_feve` and `sem_feve`, over valid neurons; and, paired over neurons, `difference`, its
        95 % bootstrap interval `low` to `high` and `n_neurons` against the condition that `against`
        names: the coarsest of the same backbone where its spacing is swept, else of the first
        backbone whose spacing is. Empty where none is: blocks of one network that differ in their
        spacing are no sweep.
    """
    chosen = list(_chosen(neurons, spacing))
    rows = pd.DataFrame(chosen, columns=[*IDENTITY, *_MEASURED])
    found: list[dict[Any, Any]] = []
    for _, group in rows.groupby(["recording", "seed"], sort=False):
        members = group.to_dict("records")
        coarsest: dict[tuple[object, ...], Any] = dict(_coarsest(members))
        if not coarsest:
            continue
        first = next(iter(coarsest.values()))
        for row in members:
            other = coarsest.get(_backbone(row), first)
            compared = paired_difference(rows_of(neurons, other), rows_of(neurons, row))
            against = describe(other, ("model", "input_size", "block"))
            found.append({**row, "against": against, **asdict(compared)})
    return pd.DataFrame(found, columns=list(NO_RESOLUTION)).astype(dict.fromkeys(INTEGERS, "Int64"))


def swept(table: pd.DataFrame) -> list[tuple[dict[Any, Any], list[dict[Any, Any]]]]:
    """The coarsest row of every backbone whose spacing is swept, and the finer ones, coarse first.

    Rows of a table of `resolutions`; backbones are in its order.
    """
    rows = [row for row in table.to_dict("records") if row["pixels_per_token"] > 0]
    found = []
    for backbone, coarsest in _coarsest(rows):
        finer = [
            row
            for row in rows
            if _backbone(row) == backbone and row["pixels_per_token"] < coarsest["pixels_per_token"]
        ]
        found.append((coarsest, sorted(finer, key=lambda row: -row["pixels_per_token"])))
    return found


def line_of(row: Mapping[Any, Any]) -> tuple[object, ...]:
    """What rows of one line have in common."""
    return (sampled_like(str(row["model"])), *known(row[name] for name in _LINE))


def validated(row: Mapping[Any, Any]) -> float:
    """What a row is chosen by: variance explained on validation trials, the least where unknown."""
    return float(np.nan_to_num(row["val_varexp"], nan=-np.inf))


def _backbone(row: Mapping[Any, Any]) -> tuple[object, ...]:
    return (unsampled(str(row["model"])), *known(row[name] for name in _LINE))


def _chosen(neurons: pd.DataFrame, spacing: Mapping[Condition, float]) -> Iterator[dict[Any, Any]]:
    """The row of each line at each spacing whose block is best on validation."""
    names = [*SERIES, *READ]
    means = (
        valid(neurons)
        .dropna(subset=["feve"])
        .groupby(names, dropna=False, sort=False)
        .agg(
            mean_feve=("feve", "mean"), sem_feve=("feve", "sem"), val_varexp=("val_varexp", "mean")
        )
        .reset_index()
    )
    best: dict[tuple[object, ...], dict[Any, Any]] = {}
    for row in means.to_dict("records"):
        pixels = spacing[Condition.from_row(row)]
        if row["tokens"] == "cls":
            continue
        place = (*line_of(row), None if np.isnan(pixels) else pixels)
        row["pixels_per_token"] = pixels
        best[place] = max(best.setdefault(place, row), row, key=validated)
    yield from best.values()


def _coarsest(rows: Sequence[dict[Any, Any]]) -> Iterator[tuple[tuple[object, ...], Any]]:
    """Of every backbone whose spacing is swept, by the name of `_backbone`, its coarsest row."""
    groups: dict[tuple[object, ...], list[dict[Any, Any]]] = {}
    for row in rows:
        if not np.isnan(row["pixels_per_token"]):
            groups.setdefault(_backbone(row), []).append(row)
    for backbone, members in groups.items():
        networks = {(row["model"], row["input_size"]) for row in members}
        if len(networks) > 1 and len({row["pixels_per_token"] for row in members}) > 1:
            yield backbone, max(members, key=lambda row: row["pixels_per_token"])
