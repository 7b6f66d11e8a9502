"""Conditions of the CNN baselines: which networks, on which part of which images."""

from __future__ import annotations

from collections.abc import Iterator

from cache import UserError
from stages.baseline.settings import FULLMODEL, MINIMODEL, BaselineSettings
from stages.baseline.task import BaselineTask
from stages.conditions import Condition
from stages.recordings.formats import FORMATS
from stages.recordings.settings import RecordingSettings
from stages.stage import Planned, Work
from stages.variant import Settings, Variant


def settings_of(settings: Settings) -> BaselineSettings | None:
    """The experiment's own table, where it has one."""
    table: BaselineSettings | None = getattr(settings, "baseline", None)
    return table


def planned_baselines(variant: Variant) -> Iterator[Planned]:
    """Every CNN of a variant, before anything is computed.

    Raises
    ------
    UserError
        Columns that the images do not have.
    """
    settings = settings_of(variant.settings)
    if settings is None:
        return
    for named, sizes in zip(variant.settings.recording, variant.sizes, strict=True):
        size = _input_size(settings, named, variant.image_shape)
        conditions = {
            model: _condition(variant, named.name, model, size) for model in (FULLMODEL, MINIMODEL)
        }
        for model in _models(settings):
            needs = [variant.cache_name] if variant.planted else []
            if model == MINIMODEL:
                needs.append(conditions[FULLMODEL].slug)
            yield Planned(
                condition=conditions[model],
                needs=tuple(needs),
                missing=variant.absent,
                work=Work(
                    trials=sizes.trials,
                    test_images=sizes.test_images,
                    neurons=sizes.neurons,
                    epochs=sum(settings.epochs),
                ),
            )


def baseline_tasks(variant: Variant) -> Iterator[BaselineTask]:
    """The same as tasks; none where the images are not at hand, or neurons not planted yet."""
    settings = settings_of(variant.settings)
    if settings is None or variant.absent or variant.stimuli is None:
        return
    if variant.planted and not variant.cache_complete:
        return
    for named, recording in zip(variant.settings.recording, variant.recordings, strict=True):
        stimuli = variant.stimuli.select(recording.all_image_ids)
        size = _input_size(settings, named, stimuli.image_shape)
        images = variant.images_digest(stimuli.ids)
        for model in _models(settings):
            yield BaselineTask(
                condition=_condition(variant, recording.name, model, size),
                recording=recording,
                recording_digest=variant.recording_digest(recording),
                stimuli=stimuli,
                images_digest=images,
                crop=cnn_columns(settings, named, stimuli.image_shape),
                size=size,
                settings=settings,
                run=variant.output,
            )


def cnn_columns(
    settings: BaselineSettings, recording: RecordingSettings, image_shape: tuple[int, int]
) -> tuple[int, int]:
    """Raw columns [first, last) that the network sees.

    Raises
    ------
    UserError
        Columns that the images do not have.
    """
    columns = image_shape[1]
    chosen = settings.crop or FORMATS[recording.format].cnn_columns(recording)
    first, last = chosen or (0, columns)
    if not 0 <= first < last <= columns:
        raise UserError(
            f"baseline.crop = [{first}, {last}]: the images of {recording.name} have {columns} "
            f"columns, choose 0 <= first < last <= {columns}"
        )
    return first, last


def _models(settings: BaselineSettings) -> list[str]:
    """The models, the fullmodel first: the minimodels start from it."""
    return sorted(set(settings.models))


def _input_size(
    settings: BaselineSettings, recording: RecordingSettings, image_shape: tuple[int, int] | None
) -> tuple[int, int]:
    """Rows and columns that the network sees; (0, 0) where only the images tell."""
    if image_shape is None:
        return settings.input_size or (0, 0)
    first, last = cnn_columns(settings, recording, image_shape)
    return settings.input_size or (image_shape[0], last - first)


def _condition(variant: Variant, recording: str, model: str, size: tuple[int, int]) -> Condition:
    return Condition(
        recording=recording,
        model=model,
        input_size=f"{size[0]}x{size[1]}",
        tuning="full",
        solver="adamw",
        seed=variant.seed,
    )
