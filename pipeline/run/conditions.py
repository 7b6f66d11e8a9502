"""Conditions of a plan, computed: one loop for every stage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from pipeline.results import protect_tables
from pipeline.workers import devices_of, workplace
from stages.executors import n_cores
from stages.failures import FailedCondition
from stages.readouts import TABLES, manifest_path, protect, save_condition

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.experiment import ExperimentFile
    from pipeline.plan.steps import Plan, Step
    from pipeline.terminal import Terminal
    from stages.conditions import Condition
    from stages.readouts import FittedCondition
    from stages.stage import Stage, Task


def run_stage(
    file: ExperimentFile,
    stage: Stage,
    steps: Sequence[Step],
    terminal: Terminal,
    *,
    failed: Sequence[FailedCondition] = (),
) -> list[FailedCondition]:
    """Compute what is not up to date of a stage's steps, saving each condition as it is done.

    Nothing starts from what `failed` in earlier stages. Returns those that could not be computed.
    """
    outdated = {
        step.task.condition: step.task
        for step in steps
        if step.task is not None and step.state != "up to date"
    }
    # What none of the checks before foresaw must not pass for done.
    reason = "what it depends on cannot be told: its recording, images or cache are not at hand"
    failures = [
        FailedCondition(condition=step.condition, reason=reason)
        for step in steps
        if step.condition is not None and step.task is None and step.state != "up to date"
    ]
    n_left = len(outdated) + len(failures)
    lost = {failure.condition for failure in [*failed, *failures]}
    for fitted in _compute(file, stage, list(outdated.values()), lost, terminal):
        if isinstance(fitted, FailedCondition):
            failures.append(fitted)
            lost.add(fitted.condition)
            continue
        task = outdated[fitted.condition]
        save_condition(file.output, fitted, task.products)
        task.clean_up()
        if line := stage.told(fitted):
            terminal.note(line)
    n_done, n_before = n_left - len(failures), len(steps) - n_left
    terminal.note(f"{file.output}: {n_done} conditions {stage.done}, {n_before} up to date")
    return failures


def protect_earlier(run: Path, plan: Plan) -> None:
    """Give what is up to date of vitv1 0.1 its manifests; a folder of others stays as it is."""
    with suppress(OSError):
        for step in plan.conditions:
            if step.task is not None and step.state == "up to date":
                protect(run, step.task)
        if plan.steps[-1].state == "up to date" and not manifest_path(run, TABLES).exists():
            protect_tables(run)


def _compute(
    file: ExperimentFile,
    stage: Stage,
    tasks: Sequence[Task],
    lost: Set[Condition],
    terminal: Terminal,
) -> Iterator[FittedCondition | FailedCondition]:
    """Compute tasks in waves: none of a wave needs another of it.

    The caller adds to the `lost` conditions what fails here while it goes on.
    """
    if not tasks:
        return
    run = file.variants[0].run
    devices = devices_of(run)
    tasks = [replace(cast(Any, task), device=devices[0]) for task in tasks]
    waiting = list(tasks)
    ready, dropped = _next_wave(waiting, lost)
    yield from dropped
    if not ready:
        return
    crew = stage.crew(ready, workers=run.workers or n_cores(), devices=devices)
    with workplace(run, file.output, crew, terminal) as (executor, folder):
        total, unit = stage.parts(tasks, executor)
        with terminal.bar(stage.doing, total=total, unit=unit) as progress:
            while ready:
                yield from stage.run(ready, executor, folder, progress)
                ready, dropped = _next_wave(waiting, lost)
                yield from dropped


def _next_wave(
    waiting: list[Task], lost: Set[Condition]
) -> tuple[list[Task], list[FailedCondition]]:
    """Take out the tasks that need none of those that wait, and those that need a failed one."""
    failing, dropped = set(lost), []
    ready, kept = [], []
    conditions = {task.condition for task in waiting}
    # What a task needs stands before it.
    for task in waiting:
        missed = [what for need, what in task.needs.items() if need in failing]
        if missed:
            failing.add(task.condition)
            reason = f"its {missed[0]} failed"
            dropped.append(FailedCondition(condition=task.condition, reason=reason))
        elif task.needs.keys() & conditions:
            kept.append(task)
        else:
            ready.append(task)
    waiting[:] = kept
    return ready, dropped
