"""`vitv1 finetune`: the last stages of the backbone trained with the readouts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from cache import FeatureCache, UserError
from pipeline.experiment import Experiment, ExperimentFile
from pipeline.frozen_tasks import check_finetuning, fit_tasks, starting_readout
from pipeline.run.conditions import checked_cache, checked_caches, without_failed
from pipeline.terminal import Terminal
from pipeline.uncached import Uncached
from pipeline.variant.inputs import Sources
from pipeline.workers import device_of, workplace
from stages.conditions import Condition
from stages.executors.resources import resolve_devices
from stages.failures import FailedCondition, attempt
from stages.finetune.settings import FinetuneSettings, Last
from stages.finetune.task import FinetuneTask, ImageSource, first_tuned_block, starting_block
from stages.readouts.readout import Epoch
from stages.readouts.saved import FittedCondition, is_saved, save_condition, saved_attributes


def finetune_experiment(
    file: ExperimentFile,
    terminal: Terminal,
    caches: Sequence[FeatureCache | Uncached] | None = None,
    *,
    variants: Sequence[Experiment] | None = None,
    failed: Sequence[FailedCondition] = (),
) -> list[Condition]:
    """Tune what is not up to date, and return all tuned conditions in the order of the file.

    Everything that a person may have got wrong is checked before training starts.

    Parameters
    ----------
    caches : sequence, optional
        Those of the variants; opened and checked by default.
    variants : sequence of Experiment, optional
        Those to tune; all of the file by default.
    failed : sequence of FailedCondition
        Frozen readouts that could not be fitted: nothing starts from them.

    Raises
    ------
    UserError
        No [finetune] table, bad input or settings, no cache, no frozen readouts.
    ConditionsFailed
        Some could not be tuned; the others are saved.
    """
    if all(experiment.finetune is None for experiment in file.variants):
        raise UserError(f"{file.path} has no [finetune] table: add one, such as last = [0, 2]")
    chosen = file.variants if variants is None else variants
    caches = caches or [checked_cache(file, experiment)[0] for experiment in chosen]
    planned = [
        (experiment, list(tuning_tasks(file, experiment, cache)))
        for experiment, cache in zip(chosen, caches, strict=True)
    ]
    lost = {failure.condition for failure in failed}
    failures = [
        FailedCondition(condition=task.condition, reason="its frozen readouts failed")
        for _, tasks in planned
        for task in tasks
        if task.frozen in lost and not _is_saved(task)
    ]
    outdated = {
        task.key: task
        for experiment, tasks in planned
        for task in _with_images(
            experiment, [t for t in tasks if not _is_saved(t) and t.frozen not in lost]
        )
    }
    for task in outdated.values():
        _check_frozen(file, task)
    n_tuned = 0
    for fitted in _tune(file, list(outdated.values()), terminal):
        if isinstance(fitted, FailedCondition):
            failures.append(fitted)
            continue
        save_condition(file.output, fitted)
        outdated[fitted.key].checkpoint.remove()
        n_tuned += 1
        terminal.note(_told(fitted))
    conditions = [task.condition for _, tasks in planned for task in tasks]
    n_before = len(conditions) - n_tuned - len(failures)
    terminal.note(f"{file.output}: {n_tuned} conditions tuned, {n_before} up to date")
    return without_failed(conditions, failures)


def tuned_conditions(file: ExperimentFile) -> list[Condition]:
    """The tuned conditions of an experiment that are saved and up to date.

    Raises
    ------
    UserError
        Bad input or settings, or no cache.
    """
    variants = zip(file.variants, checked_caches(file), strict=True)
    tasks = (t for experiment, cache in variants for t in tuning_tasks(file, experiment, cache))
    return [task.condition for task in tasks if _is_saved(task)]


def tuning_tasks(
    file: ExperimentFile,
    experiment: Experiment,
    cache: FeatureCache | Uncached,
    sources: Sources | None = None,
) -> Iterator[FinetuneTask]:
    """Every tuned condition of a variant, without the images that some start from.

    Parameters
    ----------
    sources : Sources, optional
        The variant's, where they were read before.
    """
    settings, readout = experiment.finetune, starting_readout(experiment)
    if settings is None or readout is None:
        return
    check_finetuning(experiment, cache.n_blocks)
    for fit in fit_tasks(experiment, cache, readout, sources):
        assert fit.condition.block is not None
        for last, condition in tunings(settings, fit.condition):
            start = starting_block(first_tuned_block(last, fit.condition.block))
            cached = settings.start == "cache" and start is not None
            task = FinetuneTask(
                condition=condition,
                last=last,
                frozen=fit.condition,
                frozen_key=fit.key,
                run=file.output,
                recording=fit.recording,
                recording_digest=fit.recording_digest,
                backbone=experiment.backbone,
                input_size=experiment.stimuli.size,
                cache_path=cache.path,
                cache_key=cache.key,
                weights=cache.settings["backbone"]["weights"],
                weights_label=fit.weights,
                start="cache" if cached else "images",
                adamw=readout.adamw,
                settings=settings,
            )
            # What was tuned from a cache that is gone by now is as good as ever.
            absent = isinstance(cache, Uncached) and not cache.begun
            gone = cached and absent and not _is_saved(task)
            yield replace(task, start="images") if gone else task


def tunings(settings: FinetuneSettings, frozen: Condition) -> Iterator[tuple[Last, Condition]]:
    """What is tuned from a frozen condition: how many stages, and the condition that results."""
    for last in dict.fromkeys(settings.last):
        tuning = last if last == "full" else f"last{last}"
        yield last, replace(frozen, tuning=tuning, protocol=settings.protocol)


def _is_saved(task: FinetuneTask) -> bool:
    return is_saved(task.run, task.condition, task.key)


def _with_images(experiment: Experiment, tasks: Sequence[FinetuneTask]) -> Iterator[FinetuneTask]:
    """The tasks, with images where they start from them."""
    images = None
    for task in tasks:
        if task.start == "images" and images is None:
            sources = Sources(experiment)
            stimuli, crop = sources.required_stimuli(), sources.crop
            assert crop is not None
            images = ImageSource(stimuli=stimuli, crop=crop)
        yield replace(task, images=images if task.start == "images" else None)


def _check_frozen(file: ExperimentFile, task: FinetuneTask) -> None:
    """Refuse to start from readouts that are not there, or are of other settings."""
    if is_saved(task.run, task.frozen, task.frozen_key):
        return
    frozen = task.frozen
    state = "no" if saved_attributes(task.run, frozen) is None else "only outdated"
    raise UserError(
        f"{task.run} has {state} frozen readouts of block {frozen.block} ({frozen.tokens} tokens, "
        f"{frozen.solver}, seed {frozen.seed}) to start from: run vitv1 fit {file.path}"
    )


def _tune(
    file: ExperimentFile, tasks: Sequence[FinetuneTask], terminal: Terminal
) -> Iterator[FittedCondition | FailedCondition]:
    """Tune on one device after the other's free time: side by side where there are several."""
    if not tasks:
        return
    # timm takes seconds to import, and nothing else here needs it.
    from stages.finetune.cost import most_needed
    from stages.finetune.run import finetune_all, finetune_condition

    run = file.variants[0].run
    devices = [device_of(run)] if run.executor == "dask" else resolve_devices(run.device)
    on_cpu = devices == ["cpu"]
    with workplace(
        run,
        file.output,
        terminal,
        n_tasks=len(tasks) if on_cpu or run.executor == "dask" else min(len(tasks), len(devices)),
        threads=max(task.settings.threads for task in tasks) if on_cpu else 1,
        needed=(lambda: most_needed(tasks)) if on_cpu else None,
    ) as place:
        executor = place.executor
        limited = [
            replace(task, device=devices[0], memory_limit=executor.task_memory) for task in tasks
        ]
        if not executor.remote:
            yield from (_tune_here(task, terminal) for task in limited)
            return
        with terminal.bar("fine-tuning", total=len(tasks), unit="conditions") as done:
            if len(devices) > 1:
                tuned = finetune_all(limited, devices=devices)
            else:
                tune = partial(attempt, finetune_condition)
                tuned = (t for _, t in executor.map(tune, limited, device=devices[0]))
            for fitted in tuned:
                yield fitted
                done(1)


def _tune_here(task: FinetuneTask, terminal: Terminal) -> FittedCondition | FailedCondition:
    """Tune one condition in this process, and show its epochs."""
    from stages.finetune.run import finetune_condition

    label = f"{task.condition.tuning} at block {task.condition.block}"
    with terminal.bar(label, total=task.settings.epochs, unit="epochs") as done:

        def show(epoch: Epoch) -> None:
            done(1, f"{label}, validation {epoch.validation_score:.4f}")

        return attempt(partial(finetune_condition, progress=show), task)


def _told(fitted: FittedCondition) -> str:
    """One line of what was trained and how it went."""
    counts: dict[str, int] = {}
    for name, count in fitted.extra["trained"].items():
        part = name.removeprefix("vit.")
        stage = ".".join(part.split(".")[:2]) if part.startswith("blocks.") else part.split(".")[0]
        counts[stage] = counts.get(stage, 0) + count
    trained = ", ".join(f"{stage} {count:,}" for stage, count in counts.items())
    condition = fitted.condition
    best = max((e.validation_score for e in fitted.readouts.curve), default=float("nan"))
    return (
        f"{condition.recording}, {condition.tokens}, {condition.tuning} at block "
        f"{condition.block}: trained {trained} parameters; {len(fitted.readouts.curve)} epochs, "
        f"best validation score {best:.4f}"
    )
