"""Conditions of cores beside cached tokens: which blocks of which backbone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from cache import CacheError, UserError, resolve_block
from stages.baseline.cnn_vit.source import VitTokens
from stages.baseline.settings import CNN_VIT, BaselineSettings
from stages.networks.record import backbone_record
from stages.recordings.recording import Recording
from stages.recordings.recording_format import RecordingSizes
from stages.stage import Planned
from stages.tokens.uncached import Uncached
from stages.variant import Variant


def planned_beside(
    variant: Variant, settings: BaselineSettings, alone: Planned, sizes: RecordingSizes
) -> Iterator[Planned]:
    """A core beside each of the blocks, before anything is computed.

    Parameters
    ----------
    alone : Planned
        The same core without tokens.

    Raises
    ------
    UserError
        A block that the backbone does not have, or a backbone that the experiment does not have.
    """
    if not _is_chosen(variant, settings):
        return
    tokens, (rows, columns) = variant.token_shape, variant.settings.stimuli.size
    weights = {} if variant.cache_complete else variant.absent_weights
    for block in _blocks(variant, settings):
        condition = replace(
            alone.condition,
            model=f"{CNN_VIT}+{variant.model}",
            input_size=f"{alone.condition.input_size}+{rows}x{columns}",
            tuning="core",
            tokens="patch",
            block=block,
            blocks=str(block),
        )
        read = tokens.item_bytes("patches", block)
        yield replace(
            alone,
            condition=condition,
            needs=(variant.cache_name,),
            missing={**alone.missing, **weights},
            work=replace(
                alone.work,
                n_bytes=None if sizes.images is None else sizes.images * read,
                tokens=tokens,
            ),
        )


def tokens_beside(variant: Variant, recording: Recording, block: int) -> VitTokens | None:
    """The tokens of a block for the images of a recording; None where they are unknown yet.

    Raises
    ------
    CacheError
        A cache without patch tokens, or without the block or images.
    """
    tokens = variant.tokens
    if tokens is None:
        return None
    if not isinstance(tokens, Uncached) and "patches" not in tokens.kinds:
        raise CacheError(
            f"{variant.cache_name} holds {' and '.join(tokens.kinds)} but no patches, which "
            f'"{CNN_VIT}" reads: name a cache with patches as [cache] path, or drop "{CNN_VIT}" '
            "from baseline.models"
        )
    tokens.block(block)
    tokens.rows(recording.all_image_ids)
    return VitTokens(
        cache_path=tokens.path,
        cache_key=tokens.key,
        images_sha256=tokens.images_digest(recording.all_image_ids),
        block=block,
        shape=variant.token_shape,
        weights=str(tokens.provenance.get("weights", "unknown")),
        network=backbone_record(
            variant.settings.backbone, tokens.settings, image_shape=variant.image_shape
        ),
    )


def _is_chosen(variant: Variant, settings: BaselineSettings) -> bool:
    """Whether cores are trained beside a variant's backbone."""
    if settings.backbones is None:
        return True
    known = [each.model for each in variant.siblings]
    for name in settings.backbones:
        if name not in known:
            raise UserError(
                f'baseline.backbones: this experiment has no "{name}": it has '
                f"{', '.join(dict.fromkeys(known))}"
            )
    return variant.model in settings.backbones


def _blocks(variant: Variant, settings: BaselineSettings) -> list[int]:
    """The blocks that are read, increasing."""
    chosen = variant.settings.readout.blocks if settings.blocks is None else settings.blocks
    n_blocks = variant.token_shape.n_blocks
    try:
        wanted = range(n_blocks) if chosen == "all" else chosen
        return sorted({resolve_block(block, n_blocks) for block in wanted})
    except CacheError as error:
        table = "readout" if settings.blocks is None else "baseline"
        raise UserError(f"{table}.blocks: {variant.model} has no {error}") from None
