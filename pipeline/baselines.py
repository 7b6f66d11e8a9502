"""`vitv1 baseline`: the CNN fullmodel and minimodels of every recording."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain

from cache import UserError
from pipeline.experiment import Experiment, ExperimentFile
from pipeline.run.conditions import checked_cache, without_failed
from pipeline.terminal import Advance, Terminal
from pipeline.variant.inputs import Sources
from pipeline.workers import device_of, workplace
from stages.baseline.cost import least_memory
from stages.baseline.fullmodel import pooled_size
from stages.baseline.run import train_baseline
from stages.baseline.task import FULLMODEL, MINIMODEL, BaselineTask
from stages.conditions import Condition
from stages.failures import FailedCondition, attempt
from stages.readouts.readout import Epoch
from stages.readouts.saved import FittedCondition, is_saved, save_condition
from stages.recordings.minimodel import default_crop
from stages.recordings.recording import digest_recording
from stages.recordings.settings import RecordingSettings
from stages.stimuli.stimuli import digest

#: Raw columns that the published CNN takes of a minimodel recording's images.
MINIMODEL_COLUMNS = 130


def baseline_experiment(
    file: ExperimentFile, terminal: Terminal, variants: Sequence[Experiment] | None = None
) -> list[Condition]:
    """Train what is not up to date, and return all baselines in the order of the file.

    Everything that a person may have got wrong is checked before training starts.

    Parameters
    ----------
    variants : sequence of Experiment, optional
        Those to train for; all of the file by default.

    Raises
    ------
    UserError
        No [baseline] table, bad input or settings, or no images.
    ConditionsFailed
        Some could not be trained; the others are saved.
    """
    if all(experiment.baseline is None for experiment in file.variants):
        raise UserError(
            f"{file.path} has no [baseline] table: add one, such as "
            '[baseline] models = ["cnn_fullmodel"]'
        )
    chosen = file.variants if variants is None else variants
    for experiment in chosen:
        device_of(experiment.run)
        if experiment.baseline is not None:
            Sources(experiment).required_stimuli()
    tasks = baseline_tasks(file, chosen)
    outdated = [task for task in tasks if not is_trained(task)]
    failed: list[FailedCondition] = []
    for task, trained in _train_all(file, outdated, terminal):
        if isinstance(trained, FailedCondition):
            failed.append(trained)
            continue
        save_condition(file.output, trained)
        task.checkpoint.remove()
    n_trained, n_before = len(outdated) - len(failed), len(tasks) - len(outdated)
    terminal.note(f"{file.output}: {n_trained} baselines trained, {n_before} up to date")
    return without_failed([task.condition for task in tasks], failed)


def baseline_conditions(file: ExperimentFile) -> list[Condition]:
    """The baselines of an experiment that are saved and up to date.

    None where the images are not at hand: whether they are those of the training cannot be told.
    """
    return [t.condition for t in baseline_tasks(file, file.variants) if is_trained(t)]


def baseline_tasks(file: ExperimentFile, variants: Sequence[Experiment]) -> list[BaselineTask]:
    """Every baseline of some variants once: variants that differ in their backbone share it.

    Raises
    ------
    UserError
        Two variants whose recordings have the same name but not the same content.
    """
    tasks: dict[Condition, BaselineTask] = {}
    for experiment in variants:
        for task in _tasks_of(file, experiment):
            other = tasks.setdefault(task.condition, task)
            if other.key != task.key:
                raise UserError(
                    f"recording {task.recording.name} is planted in another backbone's tokens in "
                    "each variant, and a CNN has one: give each backbone an experiment of its own"
                )
    return list(tasks.values())


def _tasks_of(file: ExperimentFile, experiment: Experiment) -> Iterator[BaselineTask]:
    settings, sources = experiment.baseline, Sources(experiment)
    if settings is None or sources.stimuli is None:
        return
    planted = any(recording.format == "synthetic" for recording in experiment.recording)
    cache = checked_cache(file, experiment)[0] if planted else None
    recordings = sources.recordings(cache)
    for named, recording in zip(experiment.recording, recordings, strict=True):
        stimuli = sources.stimuli.select(recording.all_image_ids)
        crop = baseline_crop(experiment, named, stimuli.image_shape)
        size = settings.input_size or (stimuli.image_shape[0], crop[1] - crop[0])
        pooled_size(size)
        content, images = digest_recording(recording), digest(stimuli).sha256
        # The fullmodel first: the minimodels start from it.
        for model in sorted(set(settings.models)):
            yield BaselineTask(
                condition=baseline_condition(experiment, recording.name, model, size),
                recording=recording,
                recording_digest=content,
                stimuli=stimuli,
                images_digest=images,
                crop=crop,
                size=size,
                settings=settings,
                run=file.output,
                device=device_of(experiment.run),
            )


def baseline_condition(
    experiment: Experiment, recording: str, model: str, size: tuple[int, int]
) -> Condition:
    """The identity of a CNN that sees images of some size, rows first."""
    return Condition(
        recording=recording,
        model=model,
        input_size=f"{size[0]}x{size[1]}",
        tuning="full",
        solver="adamw",
        seed=experiment.run.seed,
    )


def baseline_crop(
    experiment: Experiment, recording: RecordingSettings, image_shape: tuple[int, int]
) -> tuple[int, int]:
    """Raw columns that the network sees.

    Raises
    ------
    UserError
        Columns that the images do not have.
    """
    assert experiment.baseline is not None
    columns = image_shape[1]
    crop = experiment.baseline.crop
    if crop is None and recording.format == "minimodel":
        start = default_crop(recording.name, recording.path)[0]
        crop = (start, start + MINIMODEL_COLUMNS)
    first, last = crop or (0, columns)
    if not 0 <= first < last <= columns:
        raise UserError(
            f"baseline.crop = [{first}, {last}]: the images of {recording.name} have {columns} "
            f"columns, choose 0 <= first < last <= {columns}"
        )
    return first, last


def is_trained(task: BaselineTask) -> bool:
    """Saved, with the networks that a next stage may start from."""
    return is_saved(task.run, task.condition, task.key) and task.weights_path.exists()


def _train_all(
    file: ExperimentFile, tasks: Sequence[BaselineTask], terminal: Terminal
) -> Iterator[tuple[BaselineTask, FittedCondition | FailedCondition]]:
    """Each baseline as it is trained, minimodels after the fullmodels that they start from."""
    if not tasks:
        return
    run = file.variants[0].run
    device = device_of(run)
    on_cpu = device == "cpu"
    fullmodels = [task for task in tasks if task.condition.model == FULLMODEL]
    minimodels = [task for task in tasks if task.condition.model == MINIMODEL]
    with workplace(
        run,
        file.output,
        terminal,
        n_tasks=max(len(fullmodels), len(minimodels)) if on_cpu or run.executor == "dask" else 1,
        threads=max(task.settings.threads for task in tasks) if on_cpu else 1,
        needed=(lambda: max(map(least_memory, tasks))) if on_cpu else None,
    ) as place:
        executor = place.executor
        limited = [
            [replace(task, memory_limit=executor.task_memory) for task in some]
            for some in (fullmodels, minimodels)
        ]
        if not executor.remote:
            for task in chain(*limited):
                yield task, _train(task, terminal) if _is_ready(task) else _not_ready(task)
            return
        with terminal.bar("baselines", total=len(tasks), unit="conditions") as done:
            for some in limited:
                ready = [task for task in some if _is_ready(task)]
                yield from ((task, _not_ready(task)) for task in some if not _is_ready(task))
                train = partial(attempt, train_baseline)
                for position, trained in executor.map(train, ready, device=device):
                    yield ready[position], trained
                    done(1)


def _is_ready(task: BaselineTask) -> bool:
    return task.condition.model != MINIMODEL or is_trained(task.fullmodel)


def _not_ready(task: BaselineTask) -> FailedCondition:
    return FailedCondition(condition=task.condition, reason="its fullmodel failed")


def _train(task: BaselineTask, terminal: Terminal) -> FittedCondition | FailedCondition:
    label = f"{task.condition.model} of {task.condition.recording}"
    with terminal.bar(label, total=sum(task.settings.epochs), unit="epochs") as done:

        def show(epoch: Epoch, done: Advance = done) -> None:
            done(1, f"{label}, validation {epoch.validation_score:.4f}")

        return attempt(partial(train_baseline, progress=show), task)
