"""Commands of the experiment: run and its parts, report, compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cache import UserError
from pipeline.log import logged
from pipeline.output import caches_held, output_held, writes_caches
from pipeline.plan.make import extraction, make_plan
from pipeline.plan.price import Price, price
from pipeline.plan.speed import ASSUMED
from pipeline.plan.steps import EXTRACT, REPORT, Plan
from pipeline.plan.table import plan_document, show_plan
from pipeline.report import report_run
from pipeline.results import (
    SUMMARY,
    TOLD,
    describe,
    same_settings,
    summary_rows,
    tabulated,
    varying,
    write_measured,
    write_provenance,
    write_tables,
)
from pipeline.run.begin import require_consent_to_begin
from pipeline.run.conditions import protect_earlier
from pipeline.run.extract import check_space, extract_variant
from pipeline.run.run import check_plan, run_plan
from pipeline.variant.defaults import changed_by_default
from pipeline.variant.together import one_per_cache, open_variants
from pipeline.variant.variant import Variant
from pipeline.work_folder import remove_left
from pipeline.workers import check_run, devices_of, workers_of
from stages.conditions import IDENTITY
from stages.extract import check_path
from stages.failures import StepsFailed
from stages.feve import VALID_FEV
from stages.readouts import READOUTS
from stages.registry import STAGES

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.experiment import ExperimentFile
    from pipeline.terminal import Terminal
    from pipeline.variant.inputs import Inputs

EVERYTHING = (EXTRACT, *(stage.name for stage in STAGES))


def show_dry_run(file: ExperimentFile, terminal: Terminal, *, calibrate: bool = False) -> None:
    """Print the plan of a run and do nothing of it.

    Parameters
    ----------
    calibrate : bool
        Measure this machine, and price the plan at its speed.

    Raises
    ------
    UserError
        Bad settings; or a file is not there and nothing says what it holds, so that what needs it
        has no price.
    """
    for variant in file.variants:
        check_run(variant.run)
    with terminal.busy("planning"):
        variants = open_variants(file)
        plan = make_plan(file, variants)
    _tell_remarks(variants[0].inputs.remarks(hashed=False), terminal)
    _tell_defaults(variants[0].inputs, terminal)
    show_plan(plan, terminal, title=f"Plan of {file.path}, results in {file.output}")
    cost = _price(file, variants, plan, EVERYTHING, terminal, calibrate=calibrate)
    terminal.result(cost.told())
    terminal.result(cost.speed.told())
    terminal.document(plan_document(plan) | {"cost": cost.document()})
    if cost.unpriced:
        for name, path in plan.missing().items():
            table = name.partition(".")[0]
            raise UserError(
                f"{path}: no such file or folder, so {cost.unpriced} steps have no price; correct "
                f"{name}, or say in [{table}.expected] what it holds"
            )


def run(
    file: ExperimentFile, terminal: Terminal, *, only: str | None = None, yes: bool = False
) -> None:
    """Do what is not up to date of one stage, or of everything; draw, and show.

    Parameters
    ----------
    yes : bool
        Begin what takes long, or may not fit onto a disk, without asking.

    Raises
    ------
    UserError
        Bad input or settings, a file that is not there, or another command that writes there.
    StepsFailed
        Some steps failed; the others are done.
    """
    with output_held(file), ExitStack() as stack:
        _run(file, terminal, only, yes, stack)


def _run(
    file: ExperimentFile, terminal: Terminal, only: str | None, yes: bool, stack: ExitStack
) -> None:
    kinds = EVERYTHING if only is None else (only,)
    recomputes = any(stage.recomputes_tokens for stage in STAGES if stage.name == only)
    with terminal.busy("planning"):
        variants = open_variants(file, keeps=True, recomputes=recomputes)
        plan = make_plan(file, variants)
        check_plan(file, variants, plan, kinds)
    cost = _price(file, variants, plan, kinds, terminal)
    require_consent_to_begin(file, plan, kinds, cost, terminal, yes=yes)
    with terminal.busy("looking at what is there"):
        protect_earlier(file.output, plan)
        remove_left(file.output)
        remarks = variants[0].inputs.remarks()
    logs = kinds if only else (*kinds, REPORT)
    if any(step.state != "up to date" for step in plan.steps if step.kind in logs):
        title = f"vitv1 {only or 'run'} {file.path}"
        stack.enter_context(logged(file.output, title=title, verbose=terminal.verbose))
    _tell_remarks(remarks, terminal)
    _tell_defaults(variants[0].inputs, terminal)
    if only is None:
        show_plan(plan, terminal, title=f"Plan of {file.path}", note=True)
        if cost.cost.core_seconds:
            terminal.note(cost.told())
            terminal.note(cost.speed.told())
        if all(step.state == "up to date" for step in plan.steps):
            _show_results(file, terminal)
            return
    before = tabulated(file.output)
    outcome = run_plan(file, variants, plan, kinds, terminal)
    if outcome.changed or not (outcome.failed or same_settings(file.output, file.settings)):
        write_provenance(file, outcome.plan)
    # A stage of which all failed leaves the tables as they were.
    if outcome.conditions and (outcome.changed or only is None or not outcome.failed):
        write_measured(file.output, outcome.plan)
        write_tables(file.output, outcome.conditions)
        if left := len(set(before) - {step.condition for step in outcome.plan.conditions}):
            terminal.note(
                f"{file.output}: {left} conditions that this experiment does not name are no "
                f"longer in the tables; their readouts stay in {READOUTS}"
            )
        _show_results(file, terminal)
    if outcome.failed:
        raise StepsFailed(outcome.failed)


def extract(file: ExperimentFile, terminal: Terminal, *, replace: bool) -> None:
    """Make or finish the cache of every variant; `replace` deletes one of other settings.

    Everything that a person may have got wrong is checked before the first file is written.

    Raises
    ------
    UserError
        Bad input or settings, a cache of other settings, or another writer at work.
    """
    with caches_held(file), ExitStack() as stack:
        remove_left(file.output)
        variants = open_variants(file, replaces=replace)
        for variant in one_per_cache(variants):
            check_path(variant.cache.path)
        for variant in variants:
            variant.check()
        check_space(map(extraction, one_per_cache(variants)))
        if writes_caches(file):
            title = f"vitv1 extract {file.path}"
            stack.enter_context(logged(file.output, title=title, verbose=terminal.verbose))
        for variant in one_per_cache(variants):
            extract_variant(variant, terminal)


def report(file: ExperimentFile, terminal: Terminal) -> None:
    """Draw figures and report where they are out of date, and say where they lie."""
    with output_held(file):
        page, *figures = report_run(file.output, terminal)
    _show_drawn(page, figures, terminal)
    terminal.document({"figures": figures, "report": page})


def compare(
    first: Path,
    second: Path,
    output: Path,
    terminal: Terminal,
    *,
    recordings: tuple[str, str] | None = None,
) -> None:
    """Compare two runs, or a recording of each, and print the differences."""
    from pipeline.report import DISTRIBUTIONS, SCATTER, TABLE, compare_runs

    table = compare_runs(first, second, output, terminal, recordings=recordings)
    constant = [n for n in IDENTITY if n in table and table[n].nunique(dropna=False) == 1]
    shown = table.drop(columns=[*constant, "blocks"], errors="ignore")
    names = recordings or (first, second)
    terminal.table(shown.to_dict("records"), title=f"FEVE: {names[1]} minus {names[0]}")
    drawn = SCATTER if recordings is None else DISTRIBUTIONS
    written, figure = output / TABLE, output / f"{drawn}.png"
    terminal.result(f"table   {written}")
    terminal.result(f"figure  {figure}")
    rows = table.to_dict("records")
    terminal.document({"conditions": rows, "table": written, "figures": [figure]})


def _price(
    file: ExperimentFile,
    variants: Sequence[Variant],
    plan: Plan,
    kinds: Sequence[str],
    terminal: Terminal,
    *,
    calibrate: bool = False,
) -> Price:
    """What is to be done of some kinds, at the speed of this machine where it is measured."""
    workers, speed = workers_of(file.variants[0].run), ASSUMED
    if calibrate:
        from pipeline.plan.calibrate import calibrate as measured

        with terminal.busy("measuring this machine"):
            speed = measured(variants[0], file.output)
    if speed.is_gpu:
        workers = replace(workers, number=len(devices_of(file.variants[0].run)))
    return price(plan, workers, speed=speed, kinds=kinds)


def _tell_remarks(remarks: Sequence[str], terminal: Terminal) -> None:
    for remark in remarks:
        terminal.note(f"warning: {remark}")


def _tell_defaults(inputs: Inputs, terminal: Terminal) -> None:
    for change in changed_by_default(inputs):
        terminal.note(f"note: {change}")


def _show_results(file: ExperimentFile, terminal: Terminal) -> None:
    """Figures and report where they are out of date, the printed table, and where they lie."""
    page, *figures = report_run(file.output, terminal)
    rows = summary_rows(file.output)
    _show_table(rows, terminal)
    terminal.result(f"table   {file.output / SUMMARY}")
    _show_drawn(page, figures, terminal)
    drawn = {"figures": figures, "report": page}
    terminal.document({"conditions": rows, "table": file.output / SUMMARY} | drawn)


def _show_drawn(page: Path, figures: Sequence[Path], terminal: Terminal) -> None:
    for path in figures:
        terminal.result(f"figure  {path}")
    terminal.result(f"report  {page}")


def _show_table(rows: Sequence[Mapping[str, Any]], terminal: Terminal) -> None:
    """What differs between conditions in the table, what does not above it."""
    varied = varying(rows, TOLD)
    shown = [
        {
            "condition": describe(row, varied) or describe(row, ["tuning"]),
            "block": row["block"] if row["blocks"] is None else row["blocks"],
            **{name: row[name] for name in ("n_valid", "mean_feve", "sem_feve", "seconds")},
        }
        for row in rows
    ]
    fixed = describe(rows[0], [n for n in TOLD if n not in varied and n != "seed"])
    terminal.table(shown, title=f"FEVE over neurons with FEV > {VALID_FEV}\n{fixed}")
