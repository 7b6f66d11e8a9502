"""A tuned backbone with its readouts, from pixels to rates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import safetensors.torch

from stages.networks.from_pixels import FromPixels
from stages.networks.vit import ViTReadouts, recorded_backbone
from stages.readouts.load import SavedReadouts
from stages.training.checkpoints import kept_path

#: Before the names of the backbone's parameters in a file of kept weights.
_VIT = "vit."


def tuned_network(
    run: Path,
    readouts: SavedReadouts,
    key: str,
    record: Mapping[str, Any],
    *,
    weights: str | None,
    device: str,
) -> FromPixels:
    """The network of a tuned condition; see `stages.stage.Stage.network`."""
    backbone, see = recorded_backbone(record, weights=weights, device=device)
    backbone = replace(backbone, precision=record["precision"])
    condition = readouts.condition
    assert condition.tokens is not None and condition.block is not None
    network = ViTReadouts(
        backbone, readouts.module(), blocks=[condition.block], tokens=condition.tokens
    )
    kept = safetensors.torch.load_file(kept_path(run, condition.slug, key))
    tuned = {n.removeprefix(_VIT): kept[n] for n in kept if n.startswith(_VIT)}
    network.vit.load_state_dict(tuned, strict=False)
    return FromPixels(see, network, scale=readouts.scale, output=readouts.output)
