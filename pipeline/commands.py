"""What each command does, over all variants of an experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cache import CacheError, open_cache
from pipeline.baselines import baseline_conditions, baseline_experiment
from pipeline.experiment import ExperimentFile
from pipeline.finetuning import finetune_experiment, tuned_conditions
from pipeline.plan.make import make_plan
from pipeline.plan.price import price
from pipeline.plan.table import plan_document, show_plan
from pipeline.report.report import report_run
from pipeline.results.names import describe, varying
from pipeline.results.tables import SUMMARY, summary_rows, write_tables
from pipeline.run.conditions import fit_experiment, fitted_conditions
from pipeline.run.extract import extract_experiment, one_per_cache, tokens_of
from pipeline.run.run import carry_out, check_inputs
from pipeline.terminal import Terminal
from pipeline.workers import capacity_of
from stages.conditions import IDENTITY, Condition
from stages.failures import StepsFailed
from stages.feve import VALID_FEV

#: What the printed table tells of a condition, where it varies; its block has a column.
TOLD = tuple(name for name in IDENTITY if name not in ("block", "blocks"))


def show_dry_run(file: ExperimentFile, terminal: Terminal) -> None:
    """Print the plan of a run and do nothing of it."""
    with terminal.busy("planning"):
        plan = make_plan(file)
    show_plan(plan, terminal, title=f"Plan of {file.path}, results in {file.output}")
    cost = price(plan, capacity_of(file.variants[0].run))
    terminal.result(cost.told())
    terminal.document(plan_document(plan) | {"cost": cost.document()})


def run_experiment(file: ExperimentFile, terminal: Terminal) -> None:
    """Print the plan, do what is not up to date of it, draw, and show.

    Raises
    ------
    UserError
        Bad input or settings, or a file that is not there.
    StepsFailed
        Some steps failed; the others are done.
    """
    with terminal.busy("planning"):
        plan = make_plan(file)
    check_inputs(file, plan)
    show_plan(plan, terminal, title=f"Plan of {file.path}", note=True)
    outcome = carry_out(file, plan, terminal)
    if outcome.conditions:
        _tabulate(file, outcome.conditions, terminal)
    if outcome.failed:
        raise StepsFailed(outcome.failed)


def extract_all(file: ExperimentFile, terminal: Terminal, *, replace: bool) -> None:
    """Make or finish the cache of every variant."""
    for experiment in one_per_cache(file):
        extract_experiment(file, experiment, terminal, replace=replace)


def fit_and_show(file: ExperimentFile, terminal: Terminal) -> None:
    """Fit, draw the figures, and print the table."""
    frozen = fit_experiment(file, terminal)
    _tabulate(file, [*frozen, *tuned_conditions(file), *baseline_conditions(file)], terminal)


def finetune_and_show(file: ExperimentFile, terminal: Terminal) -> None:
    """Fine-tune, draw the figures, and print the table."""
    caches = [tokens_of(file, experiment, terminal) for experiment in file.variants]
    tuned = finetune_experiment(file, terminal, caches)
    frozen = fitted_conditions(file, caches)
    _tabulate(file, [*frozen, *tuned, *baseline_conditions(file)], terminal)


def baseline_and_show(file: ExperimentFile, terminal: Terminal) -> None:
    """Train the CNNs, draw the figures, and print the table."""
    # A CNN needs no cache; whatever was read from one stays in the tables.
    cached = all(_is_complete(file.cache_path(experiment)) for experiment in file.variants)
    others = [*fitted_conditions(file), *tuned_conditions(file)] if cached else []
    _tabulate(file, [*others, *baseline_experiment(file, terminal)], terminal)


def _tabulate(file: ExperimentFile, conditions: Sequence[Condition], terminal: Terminal) -> None:
    """Tables of all that is up to date; figures, report and the printed table."""
    write_tables(file.output, conditions)
    report, *figures = report_run(file.output, terminal)
    rows = summary_rows(file.output)
    _show(rows, terminal)
    terminal.result(f"table   {file.output / SUMMARY}")
    _show_drawn(report, figures, terminal)
    terminal.document(
        {
            "conditions": rows,
            "table": file.output / SUMMARY,
            "figures": figures,
            "report": report,
        }
    )


def show_report(file: ExperimentFile, terminal: Terminal) -> None:
    """Draw figures and report where they are out of date, and say where they lie."""
    report, *figures = report_run(file.output, terminal)
    _show_drawn(report, figures, terminal)
    terminal.document({"figures": figures, "report": report})


def _show_drawn(report: Path, figures: Sequence[Path], terminal: Terminal) -> None:
    for path in figures:
        terminal.result(f"figure  {path}")
    terminal.result(f"report  {report}")


def show_comparison(first: Path, second: Path, output: Path, terminal: Terminal) -> None:
    """Compare two runs and print the differences."""
    from pipeline.report.compare import SCATTER, TABLE, compare_runs

    table = compare_runs(first, second, output, terminal)
    constant = [n for n in IDENTITY if n in table and table[n].nunique(dropna=False) == 1]
    shown = table.drop(columns=[*constant, "blocks"], errors="ignore")
    terminal.table(shown.to_dict("records"), title=f"FEVE: {second} minus {first}")
    terminal.result(f"table   {output / TABLE}")
    terminal.result(f"figure  {output / SCATTER}.png")
    terminal.document(
        {
            "conditions": table.to_dict("records"),
            "table": output / TABLE,
            "figures": [output / f"{SCATTER}.png"],
        }
    )


def _show(rows: Sequence[Mapping[str, Any]], terminal: Terminal) -> None:
    """The printed table: what differs between conditions in it, what does not above it."""
    varied = varying(rows, TOLD)
    shown = [
        {
            "condition": describe(row, varied) or describe(row, ["tuning"]),
            "block": row["blocks"] or row["block"],
            **{name: row[name] for name in ("n_valid", "mean_feve", "sem_feve", "seconds")},
        }
        for row in rows
    ]
    fixed = describe(rows[0], [n for n in TOLD if n not in varied and n != "seed"])
    terminal.table(shown, title=f"FEVE over neurons with FEV > {VALID_FEV}\n{fixed}")


def _is_complete(path: str) -> bool:
    try:
        return open_cache(path).complete
    except CacheError:
        return False
