"""A frozen backbone with the readouts of a saved condition, from pixels to rates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stages.fit.conditions import read_blocks
from stages.networks.from_pixels import FromPixels
from stages.networks.vit import ViTReadouts, recorded_backbone
from stages.readouts.load import SavedReadouts


def frozen_network(
    readouts: SavedReadouts, record: Mapping[str, Any], *, weights: str | None, device: str
) -> FromPixels:
    """The network of a frozen condition; see `stages.stage.Stage.network`."""
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
