"""Cached tokens of one block that a convolutional core is trained beside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cache import BlockShape, TokenShape


@dataclass(frozen=True, kw_only=True)
class VitTokens:
    """Patch tokens of one block of a cache.

    Parameters
    ----------
    cache_path : str
        Where they are.
    cache_key, images_sha256 : str, str or None
        The cache's identity, and that of the recording's images in it; None where the first tells
        both.
    block : int
        0-based.
    shape : TokenShape
        Of the backbone.
    weights : str
        What the results say of the backbone's weights.
    network : mapping
        What the backbone sees, from `backbone_record`; saved with the result.
    """

    cache_path: str
    cache_key: str
    block: int
    shape: TokenShape
    weights: str
    network: Mapping[str, Any]
    images_sha256: str | None = None

    @property
    def inputs(self) -> dict[str, Any]:
        """What of it decides a result; the condition says the block."""
        images = {} if self.images_sha256 is None else {"images": self.images_sha256}
        return {"key": self.cache_key, **images}

    @property
    def grid(self) -> BlockShape:
        """Grid, width and places of the block."""
        return self.shape.blocks[self.block]

    def record(self) -> dict[str, Any]:
        """What the network is built from again, of types that JSON has."""
        places = self.grid.places
        return {
            **self.network,
            "block": self.block,
            "grid": list(self.grid.grid),
            "channels": self.grid.n_channels,
            "places": None if places is None else places.document(),
        }
