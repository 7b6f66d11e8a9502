"""Execution of a plan: each step after those it needs; one that fails does not stop the others."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cache import UserError, require_space
from pipeline.output import own_folder
from pipeline.plan.make import make_plan
from pipeline.plan.steps import EXTRACT, Plan, Step
from pipeline.results import describe, tabulated
from pipeline.run.conditions import run_stage
from pipeline.run.extract import check_space, extract_variant
from pipeline.variant.together import one_per_cache, opened_together
from pipeline.variant.variant import Variant
from pipeline.workers import limit_of
from stages.failures import FailedCache, FailedCondition
from stages.registry import STAGES

if TYPE_CHECKING:
    from pipeline.experiment import ExperimentFile
    from pipeline.terminal import Terminal
    from stages.conditions import Condition


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run came to.

    Parameters
    ----------
    plan : Plan
        As it was carried out.
    conditions : list of Condition
        Those that are saved and up to date, in the order of the tables.
    failed : list
        Caches and conditions that could not be made.
    changed : bool
        Whether anything was computed.
    """

    plan: Plan
    conditions: list[Condition]
    failed: list[FailedCache | FailedCondition]
    changed: bool


def check_plan(
    file: ExperimentFile, variants: Sequence[Variant], plan: Plan, kinds: Sequence[str]
) -> None:
    """Refuse to begin steps of some kinds that cannot be finished.

    Raises
    ------
    UserError
        A file that a step needs, a device or a table is not there; settings that contradict each
        other or the data; too little memory or room on a disk.
    """
    for stage in STAGES:
        if list(kinds) == [stage.name] and stage.example and not any(plan.of(stage.name)):
            raise UserError(
                f"{file.path} has no [{stage.name}] table: add one, such as {stage.example}"
            )
    missing = plan.missing(kinds)
    for name, path in missing.items():
        others = len(missing) - 1
        more = f" ({others} more missing: vitv1 run --dry-run lists them)" if others else ""
        raise UserError(f"{path}: no such file or folder; correct {name}{more}")
    if any(step.state != "up to date" for step in plan.steps):
        require_space(0, file.output, instead="name another run.output")
    if EXTRACT in kinds:
        check_space(plan.of(EXTRACT))
    for variant in variants:
        variant.check()
        limit = limit_of(variant.settings.run)
        for stage in STAGES:
            steps = (step for step in plan.of(stage.name) if step.variant is variant)
            to_do = [s.planned for s in steps if s.planned is not None and _is_to_do(s, kinds)]
            stage.check(variant, to_do, limit)
    for step in plan.conditions:
        if _is_to_do(step, kinds):
            _check_needs(file, plan, step, kinds)
    _check_seeds(file, plan)


def run_plan(
    file: ExperimentFile,
    variants: Sequence[Variant],
    plan: Plan,
    kinds: Sequence[str],
    terminal: Terminal,
) -> Outcome:
    """Do every step of some kinds that is not up to date.

    Raises
    ------
    UserError
        Bad input, of which nothing could be made.
    """
    errors = _extract(plan, terminal) if EXTRACT in kinds else {}
    read = {name for step in plan.conditions if step.kind in kinds for name in step.needs}
    copied = [v.cache.copied(terminal) for v in one_per_cache(variants) if v.cache_name in read]
    if any(step.state != "up to date" for step in plan.of(EXTRACT)) or any(copied):
        # What was open before is decided now, from what the caches, opened again, hold.
        again = opened_together(variants)
        variants = [v for v in again if v.cache_name not in errors or not v.planted]
        plan = make_plan(file, variants)
    for variant in one_per_cache(variants):
        if variant.cache_name in read and variant.cache.unchecked:
            unchecked = ", ".join(variant.cache.unchecked)
            terminal.note(f"{variant.cache_name}: {unchecked} not at hand, not re-checked")
    failed: list[FailedCondition] = []
    changed: set[Condition] = set()
    possible = _possible(plan, errors)
    for stage in STAGES:
        steps = [step for step in possible if step.stage is stage]
        if stage.name not in kinds or not steps:
            continue
        failures = run_stage(file, stage, steps, terminal, failed=failed)
        failed.extend(failures)
        changed |= {s.condition for s in steps if s.condition and s.state != "up to date"}
    changed -= {failure.condition for failure in failed}
    conditions = [
        step.condition
        for step in plan.conditions
        if step.condition is not None and (step.state == "up to date" or step.condition in changed)
    ]
    if errors and not conditions:
        raise next(iter(errors.values()))
    return Outcome(
        plan=plan,
        conditions=conditions,
        failed=[*(_failed_cache(name, error) for name, error in errors.items()), *failed],
        changed=bool(changed),
    )


def _possible(plan: Plan, errors: Mapping[str, Exception]) -> list[Step]:
    """The conditions that need no cache that could not be made, however indirectly."""
    lost = set(errors)
    possible = []
    for step in plan.conditions:
        if step.state != "up to date" and lost & set(step.needs):
            lost.add(step.name)
        else:
            possible.append(step)
    return possible


def _is_to_do(step: Step, kinds: Sequence[str]) -> bool:
    return step.kind in kinds and step.state != "up to date"


def _check_needs(file: ExperimentFile, plan: Plan, step: Step, kinds: Sequence[str]) -> None:
    """Refuse a step that needs what this command does not make."""
    variant, by_name = step.variant, {other.name: other for other in plan.steps}
    assert variant is not None
    needed = [by_name[name] for name in step.needs]
    absent = [other for other in needed if other.state != "up to date"]
    if step.task is None and not absent:
        # Nothing else decides what it is made of.
        _ = variant.inputs.required_stimuli
    for other in absent:
        if other.kind in kinds:
            continue
        if other.kind == EXTRACT or step.task is None:
            # A combined condition reads caches of other variants, too.
            (other.variant or variant).cache.required()
            continue
        need, what = next(pair for pair in step.task.needs.items() if pair[0] == other.condition)
        state = "no" if other.reason == "not done yet" else "only outdated"
        names = ("recording", "model", "block", "tokens", "solver", "seed")
        raise UserError(
            f"{file.output} has {state} {what} of {describe(need.identity(), names)} to start "
            f"from: run vitv1 {other.kind} {file.path}"
        )


def _check_seeds(file: ExperimentFile, plan: Plan) -> None:
    """Refuse, to jobs that differ in their seed, to take each other's rows out of the tables."""
    held = {condition.seed for condition in tabulated(file.output)}
    named = {step.condition.seed for step in plan.conditions if step.condition}
    if held <= named or named <= held:
        return
    lost, new = (", ".join(map(str, sorted(seeds))) for seeds in (held - named, named))
    raise UserError(
        f"{file.output} holds results of seed {lost}, which its tables would lose to those of seed "
        f"{new}: name all in one experiment (run.seed = {sorted(held | named)}), or another folder "
        f"({own_folder(file)})"
    )


def _extract(plan: Plan, terminal: Terminal) -> dict[str, Exception]:
    """Extract what no complete cache holds; the errors by the names of the caches they cost."""
    errors: dict[str, Exception] = {}
    for step in plan.of(EXTRACT):
        if step.state == "up to date":
            terminal.note(f"{step.name}: complete")
            continue
        assert step.variant is not None
        try:
            extract_variant(step.variant, terminal)
        except Exception as error:
            errors[step.name] = error
    return errors


def _failed_cache(name: str, error: Exception) -> FailedCache:
    bad_input = isinstance(error, UserError)
    reason = str(error) if bad_input else f"{type(error).__name__}: {error}"
    return FailedCache(
        name=name,
        reason=" ".join(reason.split()),
        details="" if bad_input else "".join(traceback.format_exception(error)),
    )
