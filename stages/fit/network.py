"""A frozen backbone with the readouts of a saved condition, from pixels to rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from cache import UserError
from stages.fit.conditions import read_blocks
from stages.networks.combined import CombinedReadouts
from stages.networks.from_pixels import FromPixels
from stages.networks.vit import ViTReadouts, recorded_backbone
from stages.readouts.load import SavedReadouts
from stages.tokens.combination import Combination


def frozen_network(
    readouts: SavedReadouts, record: Mapping[str, Any], *, weights: str | None, device: str
) -> FromPixels:
    """The network of a frozen condition; see `stages.stage.Stage.network`."""
    if readouts.combination is not None:
        return _combined(
            readouts, readouts.combination, record["networks"], weights=weights, device=device
        )
    backbone, see = recorded_backbone(record, weights=weights, device=device)
    condition = readouts.condition
    assert condition.tokens is not None
    network = ViTReadouts(
        backbone,
        readouts.module(),
        blocks=read_blocks(condition),
        tokens=condition.tokens,
    )
    return FromPixels(see, network, scale=readouts.scale, output=readouts.output)


def _combined(
    readouts: SavedReadouts,
    combination: Combination,
    records: Sequence[Mapping[str, Any]],
    *,
    weights: str | None,
    device: str,
) -> FromPixels:
    """The network of a combined condition: each source sees the raw images for itself."""
    if weights is not None and any(record != records[0] for record in records):
        raise UserError(
            f"{readouts.condition.slug} reads several backbones, and weights= names one file: put "
            "their weights where they were"
        )
    parts = []
    for source, record in zip(combination.sources, records, strict=True):
        backbone, see = recorded_backbone(record, weights=weights, device=device)
        # Without a readout it gives the tokens themselves.
        tokens = ViTReadouts(
            backbone, nn.Identity(), blocks=[source.block], tokens=combination.tokens
        )
        parts.append((see, tokens))
    network = CombinedReadouts(combination, parts, readouts.module())
    return FromPixels(lambda raw: raw, network, scale=readouts.scale, output=readouts.output)
