"""Cost of stage one, told from sizes."""

from __future__ import annotations

from cache import SHARD_BYTES, TokenShape
from stages.backbones.families import VIT_RATE, image_operations
from stages.costs import Cost, Portion
from stages.executors.resources import PROCESS, TIMM


def extraction_cost(tokens: TokenShape, *, n_images: int, operations: float | None = None) -> Cost:
    """The cost of extracting some images on CPUs; a GPU takes a small part of it.

    Parameters
    ----------
    operations : float, optional
        Of one image, where they were counted; by default those of transformer blocks.
    """
    seconds = n_images * (operations or image_operations(tokens)) / VIT_RATE
    weights = 4 * sum(12 * b.n_channels**2 + 13 * b.n_channels for b in tokens.blocks)
    # One shard is computed while another is written.
    shards = 2 * min(SHARD_BYTES, n_images * tokens.image_bytes)
    return Cost(
        phases=(Portion(seconds, parts=max(1, n_images * tokens.image_bytes // SHARD_BYTES)),),
        memory=PROCESS + TIMM + weights + shards,
        shares={"backbone": seconds},
    )
