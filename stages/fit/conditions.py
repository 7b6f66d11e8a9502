"""Conditions of frozen readouts: which blocks and tokens, on which recordings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from cache import TokenShape, UserError, resolve_block
from stages.conditions import Condition
from stages.fit.combined import combinations
from stages.fit.task import FitTask
from stages.networks.record import backbone_record
from stages.readouts.settings import ReadoutSettings
from stages.readouts.solvers import SOLVERS
from stages.recordings.recording_format import RecordingSizes
from stages.spread import warn_of_scale
from stages.stage import Planned, Work
from stages.tokens.kinds import KINDS
from stages.variant import Variant

_F = TypeVar("_F", FitTask, Planned)


def _read_blocks(readout: ReadoutSettings, n_blocks: int) -> list[tuple[int, ...]]:
    """The blocks of every readout, increasing: one each, then those that are read together."""
    wanted = range(n_blocks) if readout.blocks == "all" else readout.blocks
    groups = [*((block,) for block in wanted), *readout.joint_blocks]
    found = {tuple(sorted({resolve_block(b, n_blocks) for b in blocks})) for blocks in groups}
    return sorted(found, key=lambda blocks: (len(blocks), blocks))


def read_blocks(condition: Condition) -> list[int]:
    """The blocks that a frozen condition reads, increasing."""
    assert condition.blocks is not None
    return [int(block) for block in condition.blocks.split("+")]


def frozen_conditions(
    variant: Variant, readout: ReadoutSettings, *, recording: str
) -> Iterator[Condition]:
    """The conditions of some readout settings on one recording, in the order of the tables.

    Raises
    ------
    UserError
        A block, or a CLS token, that the backbone does not have; blocks of different grids that are
        to be read together.
    """
    rows, columns = variant.settings.stimuli.size
    shape = variant.token_shape
    for tokens in readout.kinds(has_cls=shape.has_cls):
        if tokens == "cls" and not shape.has_cls:
            raise UserError(
                f'readout.tokens = "cls": {variant.model} has no CLS token: use ["patch"]'
            )
        for blocks in _read_blocks(readout, shape.n_blocks):
            grids = dict.fromkeys(shape.blocks[block].grid for block in blocks)
            if tokens == "patch" and len(grids) > 1:
                said = ", ".join(f"{rows}x{columns}" for rows, columns in grids)
                raise UserError(
                    f"readout.joint_blocks = {list(blocks)}: in {variant.model} their grids are "
                    f"{said}: join blocks of one grid"
                )
            yield Condition(
                recording=recording,
                model=variant.model,
                input_size=f"{rows}x{columns}",
                tokens=tokens,
                block=blocks[-1],
                blocks="+".join(map(str, blocks)),
                solver=readout.solver,
                seed=variant.seed,
            )


def of_all_readouts(
    variant: Variant, found: Callable[[Variant, ReadoutSettings], Iterator[_F]]
) -> Iterator[_F]:
    """What is found for a variant's readouts, those that other stages start from included."""
    every: dict[Condition, _F] = {}
    for readout in variant.readouts:
        for each in found(variant, readout):
            every.setdefault(each.condition, each)
    yield from every.values()


def fit_tasks(variant: Variant, readout: ReadoutSettings) -> Iterator[FitTask]:
    """Every condition of some readout settings as a task; none where the tokens are unknown yet.

    Raises
    ------
    CacheError
        A block, or images, that the cache does not hold.
    """
    tokens, combined = variant.tokens, list(combinations(variant, readout))
    if tokens is None:
        return
    for blocks in _read_blocks(readout, tokens.n_blocks):
        for block in blocks:
            tokens.block(block)
    network = backbone_record(
        variant.settings.backbone, tokens.settings, image_shape=variant.image_shape
    )
    for recording in variant.recordings:
        tokens.rows(recording.all_image_ids)
        images = tokens.images_digest(recording.all_image_ids)
        warn_of_scale(
            recording.spread,
            floor=SOLVERS[readout.solver].floor,
            name=recording.name,
            neurons=recording.neurons,
        )
        task: FitTask | None = None
        for condition in frozen_conditions(variant, readout, recording=recording.name):
            task = FitTask(
                condition=condition,
                cache_path=tokens.path,
                cache_key=tokens.key,
                images_sha256=images,
                weights=str(tokens.provenance.get("weights", "unknown")),
                recording=recording,
                recording_digest=variant.recording_digest(recording),
                settings=readout,
                places=variant.token_shape.blocks[read_blocks(condition)[-1]].places,
                network=network,
            )
            yield task
        for each in combined:
            known = each.known(recording.all_image_ids)
            if known is None or task is None:
                continue
            yield replace(
                task,
                condition=each.condition(readout, recording=recording.name),
                cache_key="+".join(dict.fromkeys(str(source.key) for source in known.sources)),
                weights=each.weights,
                combined=known,
                places=known.finest.places,
                network=each.record,
            )


def planned_fits(variant: Variant, readout: ReadoutSettings) -> Iterator[Planned]:
    """Every condition of some readout settings, before anything is computed.

    Raises
    ------
    UserError
        A block that the backbone does not have, or negative responses where rates are fitted.
    """
    shape, combined = variant.token_shape, list(combinations(variant, readout))

    def planned(
        sizes: RecordingSizes,
        condition: Condition,
        tokens: TokenShape,
        read: int,
        variants: Sequence[Variant],
    ) -> Planned:
        caches = {each.cache_name: each for each in variants}
        missing = dict(variant.absent_recordings)
        for each in caches.values():
            missing |= {} if each.cache_complete else {**each.absent, **each.absent_weights}
        return Planned(
            condition=condition,
            needs=tuple(caches),
            missing=missing,
            work=Work(
                trials=sizes.trials,
                test_images=sizes.test_images,
                neurons=sizes.neurons,
                epochs=SOLVERS[readout.solver].epochs(readout.of_solver),
                n_bytes=None if sizes.images is None else sizes.images * read,
                tokens=tokens,
                incomplete=sizes.incomplete,
            ),
        )

    for sizes in variant.sizes:
        if SOLVERS[readout.solver].gives_rates(readout.of_solver):
            sizes.require_rates()
        for condition in frozen_conditions(variant, readout, recording=sizes.recording):
            assert condition.tokens is not None
            kind = KINDS[condition.tokens]
            read = sum(shape.item_bytes(kind, block) for block in read_blocks(condition))
            yield planned(sizes, condition, shape, read, [variant])
        for each in combined:
            condition = each.condition(readout, recording=sizes.recording)
            tokens = each.combination.shape
            yield planned(sizes, condition, tokens, each.item_bytes, each.variants)
