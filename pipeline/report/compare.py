"""Comparison of two runs, neuron by neuron, or of two recordings as distributions."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from cache import UserError
from pipeline.report.figures.best_block import distributions
from pipeline.report.figures.neurons import scatter
from pipeline.report.figures.style import save_figure
from pipeline.results.names import describe_first, known
from pipeline.results.statistics import paired, paired_difference, unpaired_difference
from pipeline.results.tables import NEURONS, read_neurons, write_csv
from pipeline.terminal import Terminal
from stages.conditions import IDENTITY

TABLE = "differences.csv"
SCATTER = "scatter"
DISTRIBUTIONS = "distributions"

#: Columns that two runs may differ in as a whole; the recording is never one of them.
_MAY_DIFFER = tuple(n for n in IDENTITY if n not in ("recording", "block", "blocks", "tokens"))


def compare_runs(
    first: Path,
    second: Path,
    output: Path,
    terminal: Terminal,
    *,
    recordings: tuple[str, str] | None = None,
) -> pd.DataFrame:
    """Differences of mean FEVE between conditions of two runs, and a figure of the best.

    Both are written to the folder `output`.
    Conditions are joined on every identity column in which the runs have a value in common. In
    a column where they have none, such as the solver, the runs as a whole are compared.

    Parameters
    ----------
    recordings : (str, str), optional
        A recording of the first and another one of the second run, whose neurons are then
        compared as two distributions. By default recordings that both runs have are compared
        neuron by neuron.

    Returns
    -------
    data frame
        A row per pair of conditions: shared identity, `mean_feve_first` and `mean_feve_second`
        over the neurons that are valid in both, `difference` (second minus first), `low`, `high`,
        `n_neurons`. Of two recordings the columns of `unpaired_difference`.

    Raises
    ------
    UserError
        A folder without results, runs without a recording or condition in common, conditions
        that cannot be told apart, or recordings that a run does not have.
    """
    one, other = _neurons(first), _neurons(second)
    if recordings is not None and recordings[0] == recordings[1]:
        raise UserError(
            f"--recordings: both are {recordings[0]!r}, whose neurons are compared one by one "
            "without --recordings"
        )
    if recordings is None:
        one, other = _common(one, first, other, second, terminal)
    else:
        one, other = (
            _only(rows, name, run)
            for rows, name, run in zip((one, other), recordings, (first, second), strict=True)
        )

    def values(rows: pd.DataFrame, name: str) -> set[object]:
        return set(known(rows[name].unique()))

    may_differ = _MAY_DIFFER if recordings is None else ("recording", *_MAY_DIFFER)
    differing = [n for n in may_differ if not values(one, n) & values(other, n)]
    joined = [name for name in IDENTITY if name not in differing]
    ours, theirs = _grouped(one, joined), _grouped(other, joined)
    pairs = {each: (ours[each], theirs[each]) for each in ours if each in theirs}
    if not pairs:
        raise UserError(f"{first} and {second} have no condition in common ({', '.join(joined)})")
    names = (_name(first, one, differing), _name(second, other, differing))
    rows: list[dict[str, object]] = []
    for identity, (a, b) in pairs.items():
        found = _paired_row(a, b) if recordings is None else unpaired_difference(a, b)
        rows.append({**dict(zip(joined, identity, strict=True)), **found})
    table = pd.DataFrame(rows)
    write_csv(output / TABLE, table)
    best = table["mean_feve_second"].fillna(-1).to_numpy().argmax()
    a, b = list(pairs.values())[int(best)]
    told = describe_first(a, [n for n in ("recording", "tokens", "block") if n in joined])
    if recordings is None:
        drawn = scatter(a, b, names=names, note=told)
    else:
        drawn = distributions(dict(zip(names, (a, b), strict=True)), note=told)
    save_figure(drawn, output / (SCATTER if recordings is None else DISTRIBUTIONS))
    return table


def _common(
    one: pd.DataFrame, first: Path, other: pd.DataFrame, second: Path, terminal: Terminal
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of the recordings that both runs have."""
    shared = set(one["recording"]) & set(other["recording"])
    if not shared:
        raise UserError(
            f"{first} has recordings {sorted(set(one['recording']))}, {second} has "
            f"{sorted(set(other['recording']))}: neurons of different recordings are never pooled; "
            "compare runs of the same recording, or name one of each run with --recordings to see "
            "two distributions"
        )
    for neurons, run in ((one, first), (other, second)):
        left_out = sorted(set(neurons["recording"]) - shared)
        if left_out:
            terminal.note(f"recordings {', '.join(left_out)} are in {run} alone and left out")
    return tuple(rows[rows["recording"].isin(shared)] for rows in (one, other))  # type: ignore[return-value]


def _only(rows: pd.DataFrame, recording: str, run: Path) -> pd.DataFrame:
    there = sorted(set(rows["recording"]))
    if recording not in there:
        raise UserError(
            f"--recordings: {run} has no recording {recording!r}, but {', '.join(there)}"
        )
    return rows[rows["recording"] == recording]


def _paired_row(first: pd.DataFrame, second: pd.DataFrame) -> dict[str, object]:
    pairs = paired(first, second)
    return {
        "mean_feve_first": pairs["feve_first"].mean(),
        "mean_feve_second": pairs["feve_second"].mean(),
        **asdict(paired_difference(first, second)),
    }


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
