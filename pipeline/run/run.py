"""`vitv1 run`: the plan's steps, each after those it needs; one that fails does not stop others."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass

from cache import UserError, public_name
from pipeline.baselines import baseline_experiment
from pipeline.experiment import Experiment, ExperimentFile
from pipeline.finetuning import finetune_experiment
from pipeline.plan.steps import Plan
from pipeline.run.conditions import fit_experiment
from pipeline.run.extract import extract_experiment, one_per_cache
from pipeline.terminal import Terminal
from pipeline.workers import check_run, device_of
from stages.conditions import Condition
from stages.failures import ConditionsFailed, FailedCache, FailedCondition


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run came to.

    Parameters
    ----------
    conditions : list of Condition
        Those that are saved and up to date, in the order of the file.
    failed : list
        Caches and conditions that could not be made.
    """

    conditions: list[Condition]
    failed: list[FailedCache | FailedCondition]


def check_inputs(file: ExperimentFile, plan: Plan) -> None:
    """Refuse to begin what cannot be finished.

    Raises
    ------
    UserError
        A file that a step needs, or the device, is not there; settings of workers that contradict
        each other.
    """
    for name, path in plan.missing.items():
        others = len(plan.missing) - 1
        more = f" ({others} more missing: vitv1 run --dry-run lists them)" if others else ""
        raise UserError(f"{path}: no such file or folder; correct {name}{more}")
    for experiment in file.variants:
        check_run(experiment.run)
        device_of(experiment.run)


def carry_out(file: ExperimentFile, plan: Plan, terminal: Terminal) -> Outcome:
    """Do every step that is not up to date.

    Raises
    ------
    UserError
        Bad input, of which nothing could be made.
    """
    failed: list[FailedCache | FailedCondition] = []
    errors = _extract(file, plan, terminal)
    for path, error in errors.items():
        failed.append(_failed_cache(path, error))
    ready = [v for v in file.variants if file.cache_path(v) not in errors]

    def stage(compute: Callable[[], list[Condition]]) -> list[Condition]:
        try:
            return compute()
        except ConditionsFailed as error:
            failed.extend(error.failed)
            return error.conditions

    conditions: list[Condition] = []
    if ready:
        conditions += stage(lambda: fit_experiment(file, terminal, ready))
    if ready and any(variant.finetune is not None for variant in ready):
        unfit = [failure for failure in failed if isinstance(failure, FailedCondition)]
        conditions += stage(
            lambda: finetune_experiment(file, terminal, variants=ready, failed=unfit)
        )
    trainable = [v for v in file.variants if v in ready or not _planted(v)]
    if any(variant.baseline is not None for variant in trainable):
        conditions += stage(lambda: baseline_experiment(file, terminal, trainable))
    if errors and not conditions:
        raise next(iter(errors.values()))
    return Outcome(conditions=conditions, failed=failed)


def _extract(file: ExperimentFile, plan: Plan, terminal: Terminal) -> dict[str, Exception]:
    """Extract what no complete cache holds; the errors by the paths of the caches they cost."""
    errors: dict[str, Exception] = {}
    for experiment in one_per_cache(file):
        path = file.cache_path(experiment)
        name = public_name(path)
        if name in plan.named("up to date"):
            terminal.note(f"{name}: complete")
            continue
        try:
            extract_experiment(file, experiment, terminal)
        except Exception as error:
            errors[path] = error
    return errors


def _failed_cache(path: str, error: Exception) -> FailedCache:
    bad_input = isinstance(error, UserError)
    reason = str(error) if bad_input else f"{type(error).__name__}: {error}"
    return FailedCache(
        name=public_name(path),
        reason=" ".join(reason.split()),
        details="" if bad_input else "".join(traceback.format_exception(error)),
    )


def _planted(experiment: Experiment) -> bool:
    return any(recording.format == "synthetic" for recording in experiment.recording)
