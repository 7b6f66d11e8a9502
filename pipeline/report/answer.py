"""The answer of a run in a few sentences, and warnings that belong to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from pipeline.report.finer import finer_tokens
from pipeline.results.names import describe, varying
from pipeline.results.statistics import (
    SERIES,
    best_blocks,
    interval,
    paired_difference,
    references,
    rows_of,
    valid,
)
from stages.feve import VALID_FEV
from stages.recordings import FORMATS

#: Fewer valid neurons than this make a mean not to be leant on.
FEW_NEURONS = 30

_TOLD = ("model", "input_size", "tuning", "protocol", "tokens", "block", "solver", "seed")

#: Said of the best condition even where all conditions share it.
_ALWAYS = ("model", "input_size", "tuning", "tokens", "block")


def answer(neurons: pd.DataFrame, resolution: pd.DataFrame | None = None) -> list[str]:
    """Three sentences on a neurons table: what predicts best, against what, and how sure.

    Before them, with the table of `resolutions`, what finer tokens are worth where it tells.
    """
    best = best_blocks(neurons)
    if best.empty:
        return [
            f"No neuron has an explainable variance (FEV) above {VALID_FEV} and a FEVE: there is "
            "nothing to compare."
        ]
    rows = best.sort_values("mean_feve", ascending=False, kind="stable").to_dict("records")
    three = [_winner(neurons, rows[0]), _difference(neurons, rows), _choice(best, rows[0])]
    return three if resolution is None else [*finer_tokens(resolution), *three]


def differences(neurons: pd.DataFrame) -> pd.DataFrame:
    """Every trained series at its best block against its `references` there.

    Returns
    -------
    data frame
        `recording`, `condition`, `against`, `difference` of mean FEVE, `low` and `high` of its 95 %
        paired bootstrap interval, `n_neurons`.
    """
    rows = best_blocks(neurons).to_dict("records")
    told = [*(varying(neurons[SERIES].drop_duplicates().to_dict("records"), SERIES)), "block"]
    found = []
    for row in rows:
        for other in references(neurons, row):
            difference = paired_difference(rows_of(neurons, other), rows_of(neurons, row))
            found.append(
                {
                    "recording": row["recording"],
                    "condition": describe(row, told),
                    "against": describe(other, told),
                    **asdict(difference),
                }
            )
    return pd.DataFrame(found)


def warnings(neurons: pd.DataFrame, provenance: Mapping[str, Any]) -> list[str]:
    """Sentences that a reader must know before believing the numbers."""
    found = []
    random = neurons.loc[neurons["weights"] == "random", "model"]
    if len(random) and random.str.endswith("+random").all():
        found.append(
            "Conditions with random weights are controls: they say nothing of a trained ViT."
        )
    elif len(random):
        found.append(
            "The backbone's weights are random: these numbers say nothing of a trained ViT."
        )
    found.extend(_remarks(provenance))
    found.extend(f"{remark}." for remark in provenance.get("remarks", []))
    best = best_blocks(neurons)
    for row in best.to_dict("records"):
        named = f"{row['recording']}, {describe(row, _TOLD[:5])}"
        n_valid = len(valid(rows_of(neurons, row)).dropna(subset=["feve"]))
        if n_valid < FEW_NEURONS:
            found.append(f"{named}: only {n_valid} valid neurons.")
        if _test_differs(row):
            found.append(
                f"{named}: validation chooses block {row['block']} "
                f"(FEVE {row['mean_feve']:.3f}), the test images would choose block "
                f"{row['test_block']} ({row['test_mean_feve']:.3f})."
            )
    without = set(neurons["recording"]) - set(best["recording"])
    found.extend(f"{name}: no valid neuron has a FEVE." for name in sorted(without))
    for path, cache in provenance.get("caches", {}).items():
        if adapted := cache.get("weights adapted"):
            found.append(f"{path}: of the weights' file: {'; '.join(map(str, adapted))}.")
        unchecked = cache.get("not re-checked")
        if unchecked:
            found.append(f"{path}: {', '.join(unchecked)} were not at hand and not re-checked.")
    return found


def _remarks(provenance: Mapping[str, Any]) -> Iterator[str]:
    """What the formats of the experiment's recordings say of their neurons."""
    named = provenance.get("settings", {}).get("recording", [])
    for table in [named] if isinstance(named, Mapping) else named:
        format = FORMATS.get(table.get("format", ""))
        remark = None if format is None else format.remark(table)
        if remark is not None:
            yield remark


def _winner(neurons: pd.DataFrame, top: Mapping[Any, Any]) -> str:
    rows = rows_of(neurons, top)
    varied = varying(neurons[SERIES].drop_duplicates().to_dict("records"), SERIES)
    told = [n for n in _TOLD if n in _ALWAYS or n in varied]
    feve = valid(rows)["feve"].dropna().to_numpy(dtype=np.float64)
    low, high = interval(feve)
    return (
        f"In recording {top['recording']}, {describe(top, told)} predicts best: mean FEVE "
        f"{feve.mean():.3f} (95 % CI {low:.3f} to {high:.3f}) over the {len(feve)} of {len(rows)} "
        f"neurons with FEV > {VALID_FEV}."
    )


def _difference(neurons: pd.DataFrame, rows: Sequence[Mapping[Any, Any]]) -> str:
    top = rows[0]
    rivals = [row for row in rows[1:] if row["recording"] == top["recording"]]
    others = references(neurons, top) or rivals[:1]
    if not others:
        return "There is no other series of conditions to compare it with."
    told = [*varying([top, *others, *rows], [n for n in SERIES if n != "recording"]), "block"]
    said = []
    for other in others:
        theirs = rows_of(neurons, other)
        difference = paired_difference(theirs, rows_of(neurons, top))
        mean = valid(theirs)["feve"].mean()
        said.append(
            f"gainst {describe(other, told)} (mean FEVE {mean:.3f}) the paired difference is "
            f"{difference} over {difference.n_neurons} neurons"
        )
    return "A" + "; a".join(said) + "."


def _choice(best: pd.DataFrame, top: Mapping[Any, Any]) -> str:
    blocks = best[best["block"].notna()]
    if blocks.empty:
        return "No condition reads a block, so none had to be chosen."
    agree = int((blocks["block"] == blocks["test_block"]).sum())
    said = "agree" if agree else "disagree"
    if len(blocks) > 1:
        said = f"agree in {agree} of {len(blocks)} series"
    if _test_differs(top):
        said += (
            ", and for the best series the test images would have chosen block "
            f"{top['test_block']} ({top['test_mean_feve']:.3f})"
        )
    return (
        "Blocks were chosen on validation trials, not on the test images that FEVE is measured on; "
        f"the two {said}."
    )


def _test_differs(row: Mapping[Any, Any]) -> bool:
    """Whether the test images would choose another block."""
    return bool(pd.notna(row["block"]) and row["block"] != row["test_block"])
