"""Conditions of the CNN baselines: which networks, on which part of which images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from cache import UserError
from stages.baseline.cnn_vit.conditions import planned_beside, tokens_beside
from stages.baseline.cost import input_of
from stages.baseline.settings import CNN_VIT, FULLMODEL, MINIMODEL, BaselineSettings
from stages.baseline.task import BaselineTask
from stages.conditions import Condition
from stages.recordings.formats import FORMATS
from stages.recordings.settings import RecordingSettings
from stages.spread import PUBLISHED_FLOOR, warn_of_scale
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
        Columns that the images do not have, blocks that the backbone does not have, or negative
        responses.
    """
    settings = settings_of(variant.settings)
    if settings is None:
        return
    for named, sizes in zip(variant.settings.recording, variant.sizes, strict=True):
        sizes.require_rates()
        rows, columns = settings.input_size or (0, 0)
        if variant.image_shape is not None:
            first, last = cnn_columns(settings, named, variant.image_shape)
            rows, columns = settings.input_size or (variant.image_shape[0], last - first)
        needs = (variant.cache_name,) if variant.planted else ()
        fullmodel = Planned(
            condition=Condition(
                recording=named.name,
                model=FULLMODEL,
                input_size=f"{rows}x{columns}",
                tuning="full",
                solver="adamw",
                seed=variant.seed,
            ),
            needs=needs,
            missing=variant.absent,
            work=Work(
                trials=sizes.trials,
                test_images=sizes.test_images,
                neurons=sizes.neurons,
                epochs=sum(settings.epochs),
            ),
        )
        if FULLMODEL in settings.models:
            yield fullmodel
        # They start from the fullmodel.
        if MINIMODEL in settings.models:
            condition = replace(fullmodel.condition, model=MINIMODEL)
            started = (*needs, fullmodel.condition.slug)
            yield replace(fullmodel, condition=condition, needs=started)
        if CNN_VIT in settings.models:
            yield from planned_beside(variant, settings, fullmodel, sizes)


def baseline_tasks(variant: Variant) -> Iterator[BaselineTask]:
    """The same as tasks; none where the images are not at hand, or neurons not planted yet.

    Nor where tokens that they read are not known yet.

    Raises
    ------
    CacheError
        A cache that lacks what is read of it.
    """
    settings = settings_of(variant.settings)
    if settings is None or variant.absent or variant.stimuli is None:
        return
    if variant.planted and not variant.cache_complete:
        return
    named = {recording.name: recording for recording in variant.settings.recording}
    recordings = {recording.name: recording for recording in variant.recordings}
    for recording in recordings.values():
        warn_of_scale(
            recording.spread,
            floor=PUBLISHED_FLOOR,
            name=recording.name,
            neurons=recording.neurons,
        )
    for planned in planned_baselines(variant):
        recording, block = recordings[planned.condition.recording], planned.condition.block
        vit = None if block is None else tokens_beside(variant, recording, block)
        if vit is None and block is not None:
            continue
        stimuli, size = variant.stimuli.select(recording.all_image_ids), input_of(planned)
        assert size is not None
        yield BaselineTask(
            condition=planned.condition,
            recording=recording,
            recording_digest=variant.recording_digest(recording),
            stimuli=stimuli,
            images_digest=variant.images_digest(stimuli.ids),
            crop=cnn_columns(settings, named[recording.name], stimuli.image_shape),
            size=size,
            settings=settings,
            run=variant.output,
            vit=vit,
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
