"""Alternative texts of the figures: the numbers that a figure shows, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from pipeline.report.figures.agreement import agreeing, rank_correlation
from pipeline.report.figures.curves import telling_curves
from pipeline.report.figures.draw import FIGURES, Tables
from pipeline.results.names import describe, telling
from pipeline.results.statistics import (
    FROZEN,
    SERIES,
    best_blocks,
    paired,
    paired_difference,
    reference,
    rows_of,
    valid,
)

#: Conditions that a text names at most.
MOST = 12


def alt_texts(tables: Tables) -> dict[str, str]:
    """A text for every figure that these tables may have."""
    best = best_blocks(tables.neurons).sort_values("mean_feve", ascending=False, kind="stable")
    order = best.to_dict("records")
    said = {
        "feve_by_resolution": _resolutions(tables.resolution),
        "feve_per_block": _blocks(tables.summary.query("tuning == 'frozen'")),
        "feve_per_block_tuned": _blocks(tables.summary),
        "feve_per_block_models": _blocks(
            tables.summary.query(f"tuning in {FROZEN} and tokens == 'patch'")
        ),
        "best_block_violins": _means(order),
        "best_block_bars": _means(order),
        "feve_by_tuning": _means(_tuned(tables.summary)),
        **(_of_best(tables.neurons, order) if order else {}),
        "learning_curves": _curves(telling_curves(tables.curves)),
    }
    return {name: f"{FIGURES[name]}. {said.get(name, '')}".strip() for name in FIGURES}


def _listed(parts: Iterator[str]) -> str:
    found = list(parts)
    more = f"; and {len(found) - MOST} more" if len(found) > MOST else ""
    return f"{'; '.join(found[:MOST])}{more}." if found else ""


def _blocks(summary: pd.DataFrame) -> str:
    """Mean FEVE of every series at its first, highest and last block."""
    rows = summary[summary["block"].notna() & summary["mean_feve"].notna()]
    series = [
        (dict(zip(SERIES, values, strict=True)), each.sort_values("block"))
        for values, each in rows.groupby(SERIES, dropna=False, sort=False)
    ]
    told, _ = telling((identity for identity, _ in series), SERIES)

    def parts() -> Iterator[str]:
        for identity, each in series:
            top = each.iloc[int(each["mean_feve"].to_numpy(dtype=float).argmax())]
            rows = {"from": each.iloc[0], "highest": top, "to": each.iloc[-1]}
            numbers = [f"{name} {row['mean_feve']:.2f} at block {int(row['block'])}"
                       for name, row in rows.items()]  # fmt: skip
            yield f"{describe(identity, told or ['tokens'])}: mean FEVE {', '.join(numbers)}"

    return _listed(parts())


def _resolutions(resolution: pd.DataFrame) -> str:
    """Mean FEVE of every backbone at each spacing, and what it differs from."""
    rows = resolution.to_dict("records")

    def parts() -> Iterator[str]:
        for row in rows:
            pixels = row["pixels_per_token"]
            every = f"tokens every {pixels:g} pixels: " if pixels > 0 else ""
            number = f"{row['mean_feve']:.3f} ({row['difference']:+.3f})"
            yield f"{describe(row, ('model', 'block'))}, {every}{number}"

    against = f"In brackets, the difference from {rows[0]['against']}. " if rows else ""
    return f"{against}{_listed(parts())}"


def _means(rows: list[dict[Any, Any]]) -> str:
    told, _ = telling(rows, [*SERIES, "block"])
    return _listed(f"{describe(row, told or ['tuning'])}: {row['mean_feve']:.3f}" for row in rows)


def _tuned(summary: pd.DataFrame) -> list[dict[Any, Any]]:
    """Conditions at blocks that tuned ones read."""
    with_block = summary[summary["block"].notna()]
    blocks = with_block.loc[~with_block["tuning"].isin(FROZEN), "block"]
    return with_block[with_block["block"].isin(blocks)].to_dict("records")


def _of_best(neurons: pd.DataFrame, order: list[dict[Any, Any]]) -> dict[str, str]:
    rows = rows_of(neurons, order[0])
    feve = valid(rows)["feve"].dropna()
    top = rows.nlargest(3, "feve")
    named = ", ".join(
        f"neuron {n} ({f:.2f})" for n, f in zip(top["neuron"], top["feve"], strict=True)
    )
    ranks = (f"{name} {rank_correlation(rows, name):.2f}" for name in agreeing(rows))
    said = {
        "score_agreement": f"Rank correlations with FEVE: {_listed(ranks)}",
        "feve_against_fev": f"{len(rows)} neurons, {len(feve)} of them valid, whose FEVE has mean "
        f"{feve.mean():.3f}, median {feve.median():.3f}, and goes from {feve.min():.2f} to "
        f"{feve.max():.2f}.",
        "spatial_maps": f"The best explained are {named}.",
        "centres_over_cortex": f"{int(rows[['x', 'y']].notna().all(axis=1).sum())} neurons.",
    }
    for row in order[1:]:
        if row["recording"] == order[0]["recording"]:
            said["best_two_conditions"] = _pair(neurons, row, order[0])
            break
    for row in order:
        against = reference(neurons, row)
        if against is not None:
            said["best_tuned_against_reference"] = _pair(neurons, against, row)
            break
    return said


def _pair(neurons: pd.DataFrame, first: Mapping[Any, Any], second: Mapping[Any, Any]) -> str:
    told, _ = telling([first, second], [*SERIES, "block"])
    one, other = (rows_of(neurons, each) for each in (first, second))
    pairs = paired(one, other)
    above = int((pairs["feve_second"] > pairs["feve_first"]).sum())
    return (
        f"{describe(second, told)} has a higher FEVE than {describe(first, told)} in {above} of "
        f"{len(pairs)} neurons; the mean difference is {paired_difference(one, other)}."
    )


def _curves(curves: pd.DataFrame) -> str:
    def parts() -> Iterator[str]:
        for names, rows in curves.groupby(["model", "tuning"], sort=False):
            identity = dict(zip(("model", "tuning"), names, strict=True))
            best = rows["validation_score"].max()
            yield (
                f"{describe(identity, ('model', 'tuning'))}: up to {best:.3f} of validation "
                f"variance explained in {int(rows['epoch'].max()) + 1} epochs"
            )

    return _listed(parts())
