"""The conditions of a plan: which there are, and which are up to date by their content keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from cache import FeatureCache, public_name
from pipeline.baselines import baseline_condition, baseline_crop, baseline_tasks, is_trained
from pipeline.finetuning import tuning_tasks, tunings
from pipeline.frozen_tasks import fit_tasks, frozen_conditions, starting_readout
from pipeline.plan.steps import Stage, State, Step, Work, changes
from pipeline.uncached import Uncached
from pipeline.variant.variant import Known, total
from stages.baseline.task import FULLMODEL, MINIMODEL, BaselineTask
from stages.conditions import Condition
from stages.finetune.task import FinetuneTask, first_tuned_block, starting_block
from stages.fit.task import FitTask
from stages.readouts.saved import saved_attributes
from stages.readouts.settings import ReadoutSettings
from stages.tokens import KINDS

#: What a stage would compute, with the key that it skips by.
_Task = FitTask | FinetuneTask | BaselineTask


def planned_fits(known: Known) -> Iterator[Step]:
    """Frozen conditions of a variant, those that fine-tuning alone starts from included."""
    readouts = [known.experiment.readout]
    start = starting_readout(known.experiment)
    if start is not None and start.solver != known.experiment.readout.solver:
        readouts.append(start)
    for readout in readouts:
        yield from _fits(known, readout)


def _fits(known: Known, readout: ReadoutSettings) -> Iterator[Step]:
    @cache
    def tasks() -> Mapping[Condition, _Task]:
        found = _usable(known)
        if found is None:
            return {}
        planned = fit_tasks(known.experiment, found, readout, known.sources)
        return {task.condition: task for task in planned}

    missing = known.absent_recordings | ({} if known.complete else known.absent_for_cache)
    epochs = readout.adamw.max_epochs if readout.solver == "adamw" else 0
    for trials in known.recordings:
        conditions = frozen_conditions(
            known.experiment,
            readout,
            recording=trials.recording,
            n_blocks=known.tokens.n_blocks,
        )
        for condition in conditions:
            assert condition.tokens is not None and condition.blocks is not None
            images = total(trials.trials, trials.test_images)
            blocks = len(condition.blocks.split("+"))
            item = known.tokens.item_bytes(KINDS[condition.tokens])
            yield _step(
                "fit",
                known,
                condition,
                tasks,
                missing=missing,
                needs=(public_name(known.path),),
                work=Work(
                    trials=trials.trials,
                    test_images=trials.test_images,
                    neurons=trials.neurons,
                    epochs=epochs,
                    n_bytes=None if images is None else images * blocks * item,
                    tokens=known.tokens,
                ),
            )


def planned_tunings(known: Known) -> Iterator[Step]:
    """Tuned conditions of a variant."""
    settings, readout = known.experiment.finetune, starting_readout(known.experiment)
    if settings is None or readout is None:
        return

    @cache
    def tasks() -> Mapping[Condition, _Task]:
        found = _usable(known)
        if found is None:
            return {}
        planned = tuning_tasks(known.file, known.experiment, found, known.sources)
        return {task.condition: task for task in planned}

    for trials in known.recordings:
        images = total(trials.trials, trials.test_images)
        for frozen in frozen_conditions(
            known.experiment,
            readout,
            recording=trials.recording,
            n_blocks=known.tokens.n_blocks,
        ):
            assert frozen.block is not None
            for last, condition in tunings(settings, frozen):
                first = first_tuned_block(last, frozen.block)
                start = starting_block(first)
                cached = settings.start == "cache" and start is not None
                read = known.tokens.image_bytes // known.tokens.n_blocks if cached else 0
                needed = (
                    known.absent_weights if cached and known.complete else known.absent_for_cache
                )
                yield _step(
                    "finetune",
                    known,
                    condition,
                    tasks,
                    missing=known.absent_recordings | needed,
                    needs=(frozen.slug,),
                    work=Work(
                        trials=trials.trials,
                        test_images=trials.test_images,
                        neurons=trials.neurons,
                        blocks=frozen.block - (start or 0) if cached else frozen.block + 1,
                        tuned_blocks=frozen.block + 1 - max(0, first),
                        epochs=settings.epochs,
                        n_bytes=None if images is None else images * read,
                        tokens=known.tokens,
                    ),
                )


def planned_baselines(variants: Sequence[Known]) -> Iterator[Step]:
    """CNNs, each once: variants that differ in their backbone share them."""
    found: dict[Condition, Step] = {}
    for known in variants:
        for step in _baselines(known):
            assert step.condition is not None
            found.setdefault(step.condition, step)
    yield from found.values()


def _baselines(known: Known) -> Iterator[Step]:
    settings = known.experiment.baseline
    if settings is None:
        return

    @cache
    def tasks() -> Mapping[Condition, _Task]:
        if known.absent or (known.planted and not known.complete):
            return {}
        planned = baseline_tasks(known.file, [known.experiment])
        return {task.condition: task for task in planned}

    shape = _image_shape(known)
    for named, trials in zip(known.experiment.recording, known.recordings, strict=True):
        size = settings.input_size
        if size is None and shape is not None:
            first, last = baseline_crop(known.experiment, named, shape)
            size = (shape[0], last - first)
        names = {
            model: baseline_condition(known.experiment, trials.recording, model, size or (0, 0))
            for model in (FULLMODEL, MINIMODEL)
        }
        for model in sorted(set(settings.models)):
            needs = [public_name(known.path)] if known.planted else []
            if model == MINIMODEL:
                needs.append(names[FULLMODEL].slug)
            yield _step(
                "baseline",
                known,
                names[model],
                tasks,
                missing=known.absent,
                needs=tuple(needs),
                work=Work(
                    trials=trials.trials,
                    test_images=trials.test_images,
                    neurons=trials.neurons,
                    epochs=sum(settings.epochs),
                ),
            )


def _image_shape(known: Known) -> tuple[int, int] | None:
    """Rows and columns of a raw image, as far as they can be told."""
    if not known.absent:
        return known.sources.required_stimuli().image_shape
    return known.experiment.stimuli.expected.size


def _usable(known: Known) -> FeatureCache | Uncached | None:
    """The cache, where keys can be told from it: neurons may be planted in its tokens."""
    cache = known.cache
    if cache is None or known.absent_recordings or (known.planted and not known.complete):
        return None
    if cache.complete:
        return cache
    return Uncached(
        path=cache.path,
        key=cache.key,
        settings=cache.settings,
        provenance=cache.provenance,
        begun=True,
    )


def _step(
    stage: Stage,
    known: Known,
    condition: Condition,
    tasks: Callable[[], Mapping[Condition, _Task]],
    *,
    missing: Mapping[str, Path],
    needs: tuple[str, ...],
    work: Work,
) -> Step:
    state, why = _decided(stage, known, condition, tasks, missing)
    return Step(
        stage=stage,
        name=condition.slug,
        state=state,
        reason=why,
        needs=needs,
        missing=missing if state == "missing" else {},
        work=work,
        condition=condition,
        experiment=known.experiment,
    )


def _decided(
    stage: Stage,
    known: Known,
    condition: Condition,
    tasks: Callable[[], Mapping[Condition, _Task]],
    missing: Mapping[str, Path],
) -> tuple[State, str]:
    """Whether a condition is up to date, and why not."""
    saved = saved_attributes(known.file.output, condition)
    task = None
    if saved is not None and not known.absent_recordings:
        task = tasks().get(condition)
    if task is not None and saved is not None and task.key == saved["key"]:
        if not isinstance(task, BaselineTask) or is_trained(task):
            return "up to date", ""
        why = "its trained networks are gone"
    elif task is not None and saved is not None:
        why = changes(stage, condition, task.inputs, saved.get("inputs"))
    else:
        why = "not done yet"
    if missing:
        return "missing", f"needs {', '.join(missing)}"
    if saved is not None and task is None:
        return "open", f"decided when {public_name(known.path)} is complete"
    return "run", why
