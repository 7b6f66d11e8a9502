"""What each command does, over all variants of an experiment."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from cache import CacheError, open_cache
from pipeline.experiment import Experiment, ExperimentFile
from pipeline.extraction import extract_experiment
from pipeline.figures.draw import draw_figures, read_tables
from pipeline.fitting import fit_experiment
from pipeline.results import SUMMARY
from pipeline.terminal import Terminal
from stages.feve import VALID_FEV

#: Columns of the printed table; those before `n_valid` only where they vary.
TABLE_COLUMNS = (
    *(
        "recording",
        "model",
        "input_size",
        "tuning",
        "protocol",
        "solver",
        "seed",
        "tokens",
        "block",
    ),
    *("n_valid", "mean_feve", "sem_feve", "seconds"),
)


def run_experiment(file: ExperimentFile, terminal: Terminal) -> None:
    """Extract what no complete cache holds, fit what is not up to date, draw, and show."""
    for experiment in _one_per_cache(file):
        path = file.cache_path(experiment)
        if _is_complete(path):
            # Stage two compares its settings and contents with the experiment's.
            terminal.note(f"{path}: complete")
        else:
            extract_experiment(file, experiment, terminal)
    fit_and_show(file, terminal)


def extract_all(file: ExperimentFile, terminal: Terminal, *, replace: bool) -> None:
    """Make or finish the cache of every variant."""
    for experiment in _one_per_cache(file):
        extract_experiment(file, experiment, terminal, replace=replace)


def fit_and_show(file: ExperimentFile, terminal: Terminal) -> None:
    """Fit, draw the figures, and print the table."""
    summary = fit_experiment(file, terminal)
    figures = draw_figures(read_tables(file.output))
    _show(summary, terminal)
    terminal.result(f"table   {file.output / SUMMARY}")
    for path in figures:
        terminal.result(f"figure  {path}")


def _show(summary: pd.DataFrame, terminal: Terminal) -> None:
    """The printed table: what differs between conditions in columns, what does not above them."""
    names = TABLE_COLUMNS[: TABLE_COLUMNS.index("n_valid")]
    fixed = [n for n in names if summary[n].nunique(dropna=False) == 1]
    title = ", ".join(
        f"block {summary[n].iloc[0]}" if n == "block" else str(summary[n].iloc[0])
        for n in fixed
        if n != "seed" and summary[n].notna().all()
    )
    shown = summary[[n for n in TABLE_COLUMNS if n not in fixed]]
    terminal.table(shown, title=f"FEVE over neurons with FEV > {VALID_FEV}\n{title}")


def _one_per_cache(file: ExperimentFile) -> Iterator[Experiment]:
    """Variants that differ in their cache; seeds alone share one."""
    yield from {file.cache_path(experiment): experiment for experiment in file.variants}.values()


def _is_complete(path: str) -> bool:
    try:
        return open_cache(path).complete
    except CacheError:
        return False
