"""Conditions of fine-tuning: what is tuned from which frozen readouts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from stages.conditions import Condition
from stages.finetune.settings import PROTOCOLS, FinetuneSettings, Last
from stages.finetune.task import FinetuneTask, first_tuned_block, starting_block
from stages.fit.conditions import fit_tasks, frozen_conditions
from stages.readouts.manifest import is_saved
from stages.readouts.settings import ReadoutSettings
from stages.readouts.solvers import SOLVERS
from stages.stage import Planned, Work
from stages.tokens.uncached import Uncached
from stages.variant import Settings, Variant

if TYPE_CHECKING:
    from cache import TokenShape


def settings_of(settings: Settings) -> FinetuneSettings | None:
    """The experiment's own table, where it has one."""
    table: FinetuneSettings | None = getattr(settings, "finetune", None)
    return table


def starting_readout(settings: Settings) -> ReadoutSettings | None:
    """Settings of the frozen readouts that fine-tuning starts from; None where there is none."""
    readout, finetune = settings.readout, settings_of(settings)
    if finetune is None:
        return None
    return replace(
        readout,
        tokens=finetune.tokens or readout.tokens,
        blocks=readout.blocks if finetune.blocks is None else finetune.blocks,
        joint_blocks=(),
        combine=(),
        solver=PROTOCOLS[finetune.protocol].solver or readout.solver,
    )


def _tunings(
    settings: FinetuneSettings, frozen: Condition, shape: TokenShape
) -> Iterator[tuple[Last, Condition, int, int | None]]:
    """What is tuned from a frozen condition: how many layers, and the condition that results.

    Also the first tuned block, and the block whose cached tokens training starts from, if any.
    """
    assert frozen.block is not None
    for last in dict.fromkeys(settings.last):
        tuning = last if last == "full" else f"last{last}"
        first = first_tuned_block(last, frozen.block)
        cached = settings.start == "cache" and settings.rope_rescale is None
        cached = cached and _resumes(shape, frozen, first)
        start = starting_block(first) if cached else None
        yield last, replace(frozen, tuning=tuning, protocol=settings.protocol), first, start


def _resumes(shape: TokenShape, frozen: Condition, first: int) -> bool:
    """Whether a cache has all that enters the first tuned block, in every pass that is read."""
    assert frozen.block is not None
    # CLS and registers of shifted passes are in no cache.
    every_pass = shape.passes == 1 or not (shape.has_cls or shape.n_registers)
    return every_pass or frozen.tokens == "cls" or first > frozen.block


def planned_tunings(variant: Variant) -> Iterator[Planned]:
    """Every tuned condition of a variant, before anything is computed.

    Raises
    ------
    UserError
        A block or more layers than there are.
    """
    settings, readout = settings_of(variant.settings), starting_readout(variant.settings)
    if settings is None or readout is None:
        return
    tokens = variant.token_shape
    for sizes in variant.sizes:
        for frozen in frozen_conditions(variant, readout, recording=sizes.recording):
            assert frozen.block is not None
            for _, condition, first, start in _tunings(settings, frozen, tokens):
                cached, images = start is not None, sizes.images
                of_images = {} if cached and variant.cache_complete else variant.absent
                read = 0 if start is None else tokens.block_bytes(start)
                yield Planned(
                    condition=condition,
                    needs=(frozen.slug,),
                    missing={**variant.absent_recordings, **of_images, **variant.absent_weights},
                    work=Work(
                        trials=sizes.trials,
                        test_images=sizes.test_images,
                        neurons=sizes.neurons,
                        blocks=frozen.block - (-1 if start is None else start),
                        tuned_blocks=frozen.block + 1 - max(0, first),
                        epochs=settings.epochs,
                        n_bytes=None if images is None else images * read,
                        tokens=tokens,
                    ),
                )


def tuning_tasks(variant: Variant) -> Iterator[FinetuneTask]:
    """Every tuned condition of a variant as a task."""
    settings, readout = settings_of(variant.settings), starting_readout(variant.settings)
    tokens = variant.tokens
    if settings is None or readout is None or tokens is None:
        return
    shape = variant.token_shape
    for fit in fit_tasks(variant, readout):
        for last, condition, _, start in _tunings(settings, fit.condition, shape):
            task = FinetuneTask(
                condition=condition,
                last=last,
                frozen=fit.condition,
                frozen_key=fit.key,
                run=variant.output,
                recording=fit.recording,
                recording_digest=fit.recording_digest,
                backbone=variant.settings.backbone,
                shape=shape,
                input_size=variant.settings.stimuli.size,
                cache_path=tokens.path,
                cache_key=tokens.key,
                images_sha256=fit.images_sha256,
                weights=tokens.settings["backbone"]["weights"],
                weights_label=fit.weights,
                start="images" if start is None else "cache",
                penalty=SOLVERS[readout.solver].trial_penalty(readout.of_solver),
                settings=settings,
                network=fit.network,
            )
            # What was tuned from a cache that is gone by now is as good as ever.
            absent = isinstance(tokens, Uncached) and not tokens.begun
            if absent and not is_saved(task.run, condition, task.key):
                task = replace(task, start="images")
            if task.start == "images":
                task = replace(task, stimuli=variant.stimuli, crop=variant.crop)
            yield task
