"""`vitv1 fit`: readouts of every condition from the cache, and provenance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from cache import CacheError, FeatureCache, is_url
from pipeline.experiment import Experiment, ExperimentFile
from pipeline.frozen_tasks import check_finetuning, fit_tasks, starting_readout
from pipeline.results.provenance import (
    hardware,
    publishable,
    same_settings,
    versions,
    write_provenance,
)
from pipeline.terminal import Terminal
from pipeline.uncached import Uncached
from pipeline.variant.cache import copy_what_is_read, open_nearest
from pipeline.variant.inputs import Sources
from pipeline.workers import workplace
from stages.conditions import Condition
from stages.executors.resources import n_cores
from stages.failures import ConditionsFailed, FailedCondition
from stages.fit.distributed import is_divisible
from stages.fit.inputs import needed_memory
from stages.fit.schedule import count_parts, fit_all, most_at_a_time, one_of_each_size
from stages.fit.task import FitTask
from stages.readouts.saved import FittedCondition, is_saved, save_condition
from stages.tokens.identity import Agreement, check_cache


def fit_experiment(
    file: ExperimentFile, terminal: Terminal, variants: Sequence[Experiment] | None = None
) -> list[Condition]:
    """Fit what is not up to date, and return all conditions in the order of the file.

    Parameters
    ----------
    variants : sequence of Experiment, optional
        Those to fit; all of the file by default.

    Raises
    ------
    UserError
        Bad input or settings; no cache, or one of other settings.
    ConditionsFailed
        Some could not be fitted; the others are saved.
    """
    tasks: list[FitTask] = []
    caches: dict[str, dict[str, Any]] = {}
    for experiment in file.variants if variants is None else variants:
        copy_what_is_read(experiment, file.cache_path(experiment), terminal)
        cache, agreement = checked_cache(file, experiment)
        if agreement.unchecked:
            unchecked = ", ".join(agreement.unchecked)
            terminal.note(f"{cache.name}: {unchecked} not at hand, not re-checked")
        caches[cache.name] = {"key": cache.key, "not re-checked": list(agreement.unchecked)}
        tasks.extend(_tasks(experiment, cache))
    outdated = [task for task in tasks if not is_saved(file.output, task.condition, task.key)]
    failed: list[FailedCondition] = []
    for fitted in _fit(file, outdated, terminal):
        if isinstance(fitted, FailedCondition):
            failed.append(fitted)
        else:
            save_condition(file.output, fitted)
    n_fitted, n_before = len(outdated) - len(failed), len(tasks) - len(outdated)
    terminal.note(f"{file.output}: {n_fitted} conditions fitted, {n_before} up to date")
    if outdated or not same_settings(file.output, file.settings):
        _write_provenance(file, tasks, caches)
    return without_failed([task.condition for task in tasks], failed)


def _fit(
    file: ExperimentFile, tasks: Sequence[FitTask], terminal: Terminal
) -> Iterator[FittedCondition | FailedCondition]:
    """Fit on the experiment's workers, under one progress bar."""
    if not tasks:
        return
    run = file.variants[0].run

    def needed() -> int:
        # Jobs have as much memory as they have: what is too large for one is divided.
        jobs = run.slurm is not None or run.lsf is not None
        return max(
            needed_memory(task, divided=jobs and is_divisible(task))
            for task in one_of_each_size(tasks)
        )

    with workplace(
        run,
        file.output,
        terminal,
        n_tasks=most_at_a_time(tasks, run.workers or n_cores()),
        needed=needed,
    ) as place:
        total = count_parts(tasks, place.executor)
        unit = "conditions" if total == len(tasks) else "parts"
        with terminal.bar("fitting readouts", total=total, unit=unit) as done:
            yield from fit_all(tasks, place.executor, folder=place.folder, progress=done)


def without_failed(
    conditions: Sequence[Condition], failed: Sequence[FailedCondition]
) -> list[Condition]:
    """The conditions, where none of them failed.

    Raises
    ------
    ConditionsFailed
        Some did.
    """
    if failed:
        lost = {failure.condition for failure in failed}
        raise ConditionsFailed(failed, [c for c in conditions if c not in lost])
    return list(conditions)


def fitted_conditions(
    file: ExperimentFile, caches: Sequence[FeatureCache | Uncached] | None = None
) -> list[Condition]:
    """The frozen conditions of an experiment that are saved and up to date.

    Parameters
    ----------
    caches : sequence, optional
        Those of the variants; opened and checked by default.

    Raises
    ------
    UserError
        As `fit_experiment`.
    """
    if caches is None:
        caches = checked_caches(file)
    variants = zip(file.variants, caches, strict=True)
    tasks = [task for experiment, cache in variants for task in _tasks(experiment, cache)]
    return [t.condition for t in tasks if is_saved(file.output, t.condition, t.key)]


def checked_cache(file: ExperimentFile, experiment: Experiment) -> tuple[FeatureCache, Agreement]:
    """A variant's cache, complete and of the experiment's settings.

    Raises
    ------
    CacheError
        No cache, an incomplete one, or one of other settings; the message names the remedy.
    """
    path = file.cache_path(experiment)
    try:
        cache = open_nearest(experiment, path)
    except CacheError as error:
        if is_url(path):
            raise
        raise CacheError(f"{error} (vitv1 extract {file.path})") from None
    if not cache.complete:
        missing = int((~cache.shards_done).sum())
        raise CacheError(
            f"{cache.name} is incomplete, {missing} of {len(cache.shards_done)} shards are "
            f"missing: finish it with vitv1 extract {file.path}"
        )
    return cache, agreement_with(cache, experiment, Sources(experiment))


def agreement_with(cache: FeatureCache, experiment: Experiment, sources: Sources) -> Agreement:
    """What could be compared of a cache's settings and contents with a variant's.

    Raises
    ------
    CacheError
        The settings that differ.
    """
    return check_cache(
        cache,
        backbone=experiment.backbone,
        stimuli=experiment.stimuli,
        crop=sources.crop,
        dtype=experiment.cache.dtype,
        images=sources.digest,
    )


def checked_caches(file: ExperimentFile) -> list[FeatureCache]:
    """The checked cache of every variant."""
    return [checked_cache(file, experiment)[0] for experiment in file.variants]


def _tasks(experiment: Experiment, cache: FeatureCache | Uncached) -> Iterator[FitTask]:
    """Every condition of a variant, and of the frozen readouts that fine-tuning starts from."""
    check_finetuning(experiment, cache.n_blocks)
    yield from fit_tasks(experiment, cache, experiment.readout)
    start = starting_readout(experiment)
    if start is not None and start.solver != experiment.readout.solver:
        yield from fit_tasks(experiment, cache, start)


def _write_provenance(
    file: ExperimentFile, tasks: Sequence[FitTask], caches: dict[str, dict[str, Any]]
) -> None:
    content = {
        "settings": publishable(file.settings),
        "experiments": [_plain(experiment) for experiment in file.variants],
        "caches": caches,
        "seeds": sorted({task.condition.seed for task in tasks}),
        "recordings": {task.recording.name: task.recording_digest for task in tasks},
        "versions": versions(),
        "hardware": hardware(tasks[0].device),
    }
    write_provenance(file.output, content)


def _plain(experiment: Experiment) -> Any:
    """Settings as they were used, defaults filled in."""
    from pydantic import TypeAdapter

    return publishable(TypeAdapter(Experiment).dump_python(experiment, mode="json"))
