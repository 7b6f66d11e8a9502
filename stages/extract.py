"""Stage one: every block's tokens of a frozen backbone, once, into the cache.

One thread reads and prepares the next batch and one writes the last shard while the backbone
computes. Batches are cut at shard borders and their size is fixed: tokens shift a little with the
batch they were computed in, and so must not depend on a setting of speed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cache import CacheError
from cache.layout import Layout, TokenShape, plan_layout
from cache.writer import CacheWriter, ShardTokens, write_cache
from stages.backbones import Backbone
from stages.preprocessing import Preprocessing
from stages.stimuli import Stimuli

#: Images per forward pass.
BATCH = 64

Progress = Callable[[int], None]


def extract(
    stimuli: Stimuli,
    backbone: Backbone,
    preprocessing: Preprocessing,
    path: Path,
    *,
    settings: Mapping[str, Any],
    provenance: Mapping[str, Any],
    dtype: str,
    replace: bool = False,
    layout: Layout | None = None,
    progress: Progress | None = None,
) -> int:
    """Fill a cache with the tokens of all images, going on where an earlier run ended.

    Parameters
    ----------
    settings : mapping
        From `stages.token_settings.token_settings`.
    dtype : str
        "float16" or "float32".
    replace : bool
        Delete a store of other settings at `path`.
    layout : Layout, optional
        How a new store is cut; planned from the tokens' size by default.
    progress : callable, optional
        Called with a number of images whenever so many more are in the cache or computed.

    Returns
    -------
    int
        Images that were computed; the rest was there.

    Raises
    ------
    CacheError
        A store of other settings, another writer, or a token that `dtype` cannot hold.
    """
    shape = backbone.token_shape(dtype)
    plan = layout or plan_layout(shape, n_images=len(stimuli))
    device = next(backbone.model.parameters()).device
    computed = 0
    with (
        write_cache(
            path,
            settings=settings,
            provenance=provenance,
            image_ids=stimuli.ids,
            shape=shape,
            layout=plan,
            replace=replace,
        ) as writer,
        ThreadPoolExecutor(1, "read") as reading,
        ThreadPoolExecutor(1, "write") as writing,
    ):
        missing = writer.missing_shards()
        if progress is not None:
            progress(len(stimuli) - sum(len(writer.shard_ids(s)) for s in missing))
        written: Future[None] | None = None
        batches = _prefetched(reading, writer, missing, stimuli, preprocessing, device)
        for shard in missing:
            ids = writer.shard_ids(shard)
            tokens = _empty_shard(shape, len(ids))
            for first in range(0, len(ids), BATCH):
                _compute(backbone, next(batches), tokens, first, ids)
                if progress is not None:
                    progress(min(BATCH, len(ids) - first))
            if written is not None:
                written.result()
            written = writing.submit(writer.write_shard, shard, tokens)
            computed += len(ids)
        if written is not None:
            written.result()
        if not writer.cache.complete:
            writer.finish()
    return computed


def _prefetched(
    reading: ThreadPoolExecutor,
    writer: CacheWriter,
    shards: list[int],
    stimuli: Stimuli,
    preprocessing: Preprocessing,
    device: torch.device,
) -> Iterator[torch.Tensor]:
    """Prepared batches in order, the next one always in preparation."""

    def prepare(ids: NDArray[np.int64]) -> torch.Tensor:
        return preprocessing(stimuli.read(ids), device=device)

    ahead: Future[torch.Tensor] | None = None
    for shard in shards:
        ids = writer.shard_ids(shard)
        for first in range(0, len(ids), BATCH):
            following = reading.submit(prepare, ids[first : first + BATCH])
            if ahead is not None:
                yield ahead.result()
            ahead = following
    if ahead is not None:
        yield ahead.result()


def _empty_shard(shape: TokenShape, n_images: int) -> ShardTokens:
    return [
        {kind: np.empty((n_images, *shape.item(kind)), dtype=shape.dtype) for kind in shape.kinds()}
        for _ in range(shape.n_blocks)
    ]


def _compute(
    backbone: Backbone,
    images: torch.Tensor,
    tokens: ShardTokens,
    first: int,
    ids: NDArray[np.int64],
) -> None:
    """One forward pass into the shard's arrays, refusing what their dtype cannot hold."""
    dtype = torch.float16 if tokens[0]["cls"].dtype == np.float16 else torch.float32
    for block, kinds in enumerate(backbone.tokens(images)):
        for kind, values in kinds.items():
            stored = values.to(dtype)
            if not bool(torch.isfinite(stored).all()):
                raise _unfit(stored, values, kind, block, ids[first:])
            tokens[block][kind][first : first + len(stored)] = stored.cpu().numpy()


def _unfit(
    stored: torch.Tensor, values: torch.Tensor, kind: str, block: int, ids: NDArray[np.int64]
) -> CacheError:
    """Which image has a token that the stored dtype cannot hold, and what to do."""
    row = int((~torch.isfinite(stored)).flatten(1).any(dim=1).nonzero()[0].item())
    largest = values[row].float().abs().max().item()
    remedy = (
        'set [cache] dtype = "float32"'
        if np.isfinite(largest)
        else 'set precision and dtype to "float32", or check the weights'
    )
    return CacheError(
        f"image {ids[row]}, block {block}: the largest token ({kind}) is {largest:.3g}, which "
        f"{str(stored.dtype).removeprefix('torch.')} cannot hold: {remedy}"
    )
