"""Extraction: every block's tokens of a frozen backbone, once, into the cache.

One thread reads and prepares the next batch and one writes the last shard while the backbone
computes. Batches are cut at shard borders and their size is fixed: tokens shift a little with the
batch that they are computed in, and no setting of speed may change them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cache import (
    SHARD_BYTES,
    CacheError,
    CacheWriter,
    Layout,
    ShardTokens,
    ShardWriter,
    TokenShape,
    plan_layout,
    write_cache,
)
from stages.backbones.backbone import BATCH, Backbone
from stages.stimuli.preprocessing import Preprocessing
from stages.stimuli.stimuli import Stimuli

ImageProgress = Callable[[int], None]
Parts = Callable[[CacheWriter, Sequence[int], ImageProgress], Iterator[int]]


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
    memory_limit: int | None = None,
    parts: Parts | None = None,
    progress: ImageProgress | None = None,
) -> int:
    """Fill a cache with the tokens of all images, going on where an earlier run ended.

    Parameters
    ----------
    settings : mapping
        From `stages.tokens.identity.token_settings`.
    dtype : str
        "float16" or "float32".
    replace : bool
        Delete a store of other settings at `path`.
    layout : Layout, optional
        How a new store is cut; planned from the tokens' size by default.
    memory_limit : int, optional
        Bytes that the process may use: a new store gets smaller shards where it must.
    parts : callable, optional
        Has other processes compute and write shards: takes the writer, the missing shards and the
        progress function, and yields each shard that is durably written. By default this process
        computes.
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
    least = BATCH * shape.image_bytes
    plan = layout or plan_layout(
        shape, n_images=len(stimuli), shard_bytes=max(least, shard_bytes(memory_limit))
    )
    with write_cache(
        path,
        settings=settings,
        provenance=provenance,
        image_ids=stimuli.ids,
        shape=shape,
        layout=plan,
        replace=replace,
    ) as writer:
        missing = writer.missing_shards()
        computed = sum(len(writer.shard_ids(shard)) for shard in missing)
        if progress is not None:
            progress(len(stimuli) - computed)
        done = progress or (lambda number: None)
        if missing and parts is not None:
            for shard in parts(writer, missing, done):
                writer.record(shard)
        elif missing:
            extract_shards(
                stimuli, backbone, preprocessing, writer, missing, writer.write_shard, done
            )
        if not writer.cache.complete:
            writer.finish()
    return computed


def shard_bytes(memory_limit: int | None) -> int:
    """Most bytes of a shard: two are held, one being computed and one being written.

    No shard is made smaller than a batch, so that no token depends on the limit.
    """
    return SHARD_BYTES if memory_limit is None else min(SHARD_BYTES, memory_limit // 4)


def extract_shards(
    stimuli: Stimuli,
    backbone: Backbone,
    preprocessing: Preprocessing,
    writer: ShardWriter,
    shards: Sequence[int],
    write: Callable[[int, ShardTokens], None],
    progress: ImageProgress,
) -> None:
    """Compute some shards, and write each while the next is computed."""
    device = next(backbone.model.parameters()).device
    shape = backbone.token_shape(writer.dtype)
    with ThreadPoolExecutor(1, "read") as reading, ThreadPoolExecutor(1, "write") as writing:
        written: Future[None] | None = None
        batches = _prefetched(reading, writer, shards, stimuli, preprocessing, device)
        for shard in shards:
            ids = writer.shard_ids(shard)
            tokens = _empty_shard(shape, len(ids))
            for first in range(0, len(ids), BATCH):
                _compute(backbone, next(batches), tokens, first, ids)
                progress(min(BATCH, len(ids) - first))
            if written is not None:
                written.result()
            written = writing.submit(write, shard, tokens)
        if written is not None:
            written.result()


def _prefetched(
    reading: ThreadPoolExecutor,
    writer: ShardWriter,
    shards: Sequence[int],
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
    """The error that names the image whose token the stored dtype cannot hold, and the remedy."""
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
