"""Record of what a ViT saw: kept with its results, so that it can be built again without them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stages.backbones.settings import BackboneSettings

#: What of the preprocessing decides the pixels that a network is shown.
_SEEN = ("crop", "input_size", "mean", "std")


def backbone_record(
    backbone: BackboneSettings,
    tokens: Mapping[str, Any],
    *,
    image_shape: tuple[int, int] | None,
) -> dict[str, Any]:
    """The backbone, its weights and its preprocessing, of types that JSON has.

    Parameters
    ----------
    tokens : mapping
        Settings of the tokens, from `stages.tokens.identity.token_settings`.
    image_shape : pair of int, optional
        Rows and columns of a raw image; None where it is not known.
    """
    named = asdict(backbone)
    if backbone.weights not in ("hub", "random"):
        # The run may be read from another working directory.
        named["weights"] = str(Path(backbone.weights).absolute())
    seen = tokens["preprocessing"]
    return {
        "backbone": named,
        "weights": dict(tokens["backbone"]["weights"]),
        "preprocessing": {name: seen[name] for name in _SEEN if name in seen},
        "image_shape": None if image_shape is None else list(image_shape),
    }
