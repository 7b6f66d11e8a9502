"""Comparison of two runs, joined condition by condition and neuron by neuron."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from cache import UserError
from pipeline.report.figures.neurons import scatter
from pipeline.report.figures.style import save_figure
from pipeline.results.names import describe_first, known
from pipeline.results.statistics import paired_difference, valid
from pipeline.results.tables import NEURONS, read_neurons, write_csv
from pipeline.terminal import Terminal
from stages.conditions import IDENTITY

TABLE = "differences.csv"
SCATTER = "scatter"

#: Columns that two runs may differ in as a whole; the recording is never one of them.
_MAY_DIFFER = tuple(n for n in IDENTITY if n not in ("recording", "block", "blocks", "tokens"))


def compare_runs(first: Path, second: Path, output: Path, terminal: Terminal) -> pd.DataFrame:
    """Differences of mean FEVE between conditions of two runs, and a scatter of the best.

    Both are written to the folder `output`.
    Conditions are joined on every identity column in which the runs have a value in common. In
    a column where they have none, such as the solver, the runs as a whole are compared.

    Returns
    -------
    data frame
        A row per pair of conditions: shared identity, `mean_feve_first`, `mean_feve_second`,
        `difference` (second minus first), `low`, `high`, `n_neurons`.

    Raises
    ------
    UserError
        A folder without results, runs without a recording or condition in common, or conditions
        that cannot be told apart.
    """
    one, other = _neurons(first), _neurons(second)
    shared = sorted(set(one["recording"]) & set(other["recording"]))
    if not shared:
        raise UserError(
            f"{first} has recordings {sorted(set(one['recording']))}, {second} has "
            f"{sorted(set(other['recording']))}: neurons of different recordings are never pooled; "
            "compare runs of the same recording"
        )
    for neurons, run in ((one, first), (other, second)):
        left_out = sorted(set(neurons["recording"]) - set(shared))
        if left_out:
            terminal.note(f"recordings {', '.join(left_out)} are in {run} alone and left out")

    def values(rows: pd.DataFrame, name: str) -> set[object]:
        return set(known(rows[name].unique()))

    differing = [n for n in _MAY_DIFFER if not values(one, n) & values(other, n)]
    joined = [name for name in IDENTITY if name not in differing]
    ours, theirs = _grouped(one, joined), _grouped(other, joined)
    pairs = {each: (ours[each], theirs[each]) for each in ours if each in theirs}
    if not pairs:
        raise UserError(f"{first} and {second} have no condition in common ({', '.join(joined)})")
    names = (_name(first, one, differing), _name(second, other, differing))
    rows: list[dict[str, object]] = []
    for identity, (a, b) in pairs.items():
        rows.append(
            {
                **dict(zip(joined, identity, strict=True)),
                "mean_feve_first": valid(a)["feve"].mean(),
                "mean_feve_second": valid(b)["feve"].mean(),
                **asdict(paired_difference(a, b)),
            }
        )
    table = pd.DataFrame(rows)
    write_csv(output / TABLE, table)
    best = table["mean_feve_second"].fillna(-1).to_numpy().argmax()
    a, b = list(pairs.values())[int(best)]
    told = describe_first(a, [n for n in ("recording", "tokens", "block") if n in joined])
    drawn = scatter(a, b, names=(f"{names[0]}\n{told}", f"{names[1]}\n{told}"))
    save_figure(drawn, output / SCATTER)
    return table


def _neurons(run: Path) -> pd.DataFrame:
    if not (run / NEURONS).exists():
        raise UserError(f"{run} has no {NEURONS}: name the output folder of a finished run")
    return read_neurons(run)


def _grouped(rows: pd.DataFrame, joined: list[str]) -> dict[tuple[object, ...], pd.DataFrame]:
    """Rows of a run by their identity."""
    groups = {}
    for values, group in rows.groupby(joined, dropna=False, sort=False):
        identity: Any = values
        if group["neuron"].duplicated().any():
            several = [n for n in IDENTITY if group[n].nunique(dropna=False) > 1]
            raise UserError(
                f"one run has several conditions that differ in {', '.join(several)} and the "
                "other has none of their values: fit the runs with one value each"
            )
        groups[known(identity)] = group
    return groups


def _name(run: Path, rows: pd.DataFrame, differing: list[str]) -> str:
    """A run's folder, and in what it differs as a whole."""
    said = describe_first(rows, differing)
    return f"{run.name} ({said})" if said else run.name
