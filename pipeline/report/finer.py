"""The answer to what finer tokens are worth, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from pipeline.results.names import describe
from pipeline.results.resolution import swept, validated
from pipeline.results.statistics import Difference
from stages.backbones import unsampled
from stages.conditions import is_null

#: Other networks that a sentence names at most.
_MOST = 4


def finer_tokens(resolution: pd.DataFrame) -> list[str]:
    """Sentences on a table of `resolutions`: of the best sweep, and of other networks.

    The first begins with "Finer tokens"; none where nothing is swept. Validation tells what is best
    of several, never the test images that FEVE is measured on.
    """
    sweeps = [(coarse, finer) for coarse, finer in swept(resolution) if finer]
    if not sweeps:
        return []
    coarse, finer = max(sweeps, key=lambda each: max(map(validated, each[1])))
    top = max(finer, key=validated)
    rest = [row for row in finer if row is not top]
    changed = "raise" if top["difference"] > 0 else "change"
    said = (
        f"Finer tokens {changed} mean FEVE: in recording {top['recording']}, "
        f"{describe({**top, 'model': unsampled(top['model'])}, ('model', 'tuning'))} has "
        f"{coarse['mean_feve']:.3f} with {_way(coarse)} and "
        f"{top['mean_feve']:.3f} with {_way(top)}, {_gain(top)} paired over "
        f"{int(top['n_neurons'])} neurons"
    )
    if rest:
        said += "; " + "; ".join(f"with {_way(row)}, {_gain(row)}" for row in rest)
    return [
        f"{said}. Blocks and what is named first were chosen on validation.",
        *_others(resolution, coarse, finer),
    ]


def _others(
    resolution: pd.DataFrame, coarse: Mapping[Any, Any], finer: Sequence[Mapping[Any, Any]]
) -> list[str]:
    """Other networks of the recording at their best, against the same coarse tokens."""
    ours = {coarse["model"], *(row["model"] for row in finer)}
    against = describe(coarse, ("model", "input_size", "block"))
    best: dict[str, Mapping[Any, Any]] = {}
    for row in resolution.to_dict("records"):
        same = all(row[name] == coarse[name] for name in ("recording", "seed"))
        if same and row["against"] == against and row["model"] not in ours:
            best[row["model"]] = max(best.setdefault(row["model"], row), row, key=validated)
    if not best:
        return []
    order = sorted(best.values(), key=lambda row: -row["mean_feve"])[:_MOST]
    parts = [
        f"{describe(row, ('model', 'tuning'))} {row['mean_feve']:.3f}"
        + (f" with {_way(row)}" if row["pixels_per_token"] > 0 else "")
        + f", {_gain(row)}"
        for row in order
    ]
    return [f"Against the same coarse tokens: {'; '.join(parts)}."]


def _way(row: Mapping[Any, Any]) -> str:
    by_patch = "+patch" in row["model"] and "+stride" not in row["model"]
    what = "patches of" if by_patch else "tokens every"
    block = "" if is_null(row["block"]) else f" (block {int(row['block'])})"
    return f"{what} {row['pixels_per_token']:g} pixels{block}"


def _gain(row: Mapping[Any, Any]) -> str:
    names = ("difference", "low", "high", "n_neurons")
    return str(Difference(**{name: row[name] for name in names}))
