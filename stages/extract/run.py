"""Computation of shards: every block's tokens of a frozen backbone.

One thread reads and prepares the next batch and one writes the last shard while the backbone
computes. Batches are cut at shard borders and their size is fixed: tokens shift a little with the
batch that they are computed in, and no setting of speed may change them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cache import CacheError, ShardTokens, ShardWriter
from stages.backbones.backbone import BATCH, Backbone
from stages.stimuli.preprocessing import Preprocessing
from stages.stimuli.stimuli import Stimuli


def extract_shards(
    stimuli: Stimuli,
    backbone: Backbone,
    preprocessing: Preprocessing,
    writer: ShardWriter,
    shards: Sequence[int],
    write: Callable[[int, ShardTokens], None],
    progress: Callable[[int], None],
) -> None:
    """Compute some shards, and write each while the next is computed."""
    device = next(backbone.model.parameters()).device
    shape = backbone.token_shape(writer.dtype)

    def prepare(ids: NDArray[np.int64]) -> torch.Tensor:
        return preprocessing(stimuli.read(ids), device=device)

    def prepared() -> Iterator[torch.Tensor]:
        """Batches in order, the next one always in preparation."""
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

    with ThreadPoolExecutor(1, "read") as reading, ThreadPoolExecutor(1, "write") as writing:
        written = writing.submit(lambda: None)
        batches = prepared()
        for shard in shards:
            ids = writer.shard_ids(shard)
            tokens: ShardTokens = [
                {
                    kind: np.empty((len(ids), *shape.item(kind, block)), shape.dtype)
                    for kind in shape.kinds()
                }
                for block in range(shape.n_blocks)
            ]
            for first in range(0, len(ids), BATCH):
                _compute(backbone, next(batches), tokens, first, ids)
                progress(min(BATCH, len(ids) - first))
            written.result()
            written = writing.submit(write, shard, tokens)
        written.result()


@torch.inference_mode()
def _compute(
    backbone: Backbone,
    images: torch.Tensor,
    tokens: ShardTokens,
    first: int,
    ids: NDArray[np.int64],
) -> None:
    """A batch's passes into the shard's arrays, refusing what their dtype cannot hold."""
    rows = slice(first, first + len(images))
    for part, computed in backbone.passes(images):
        for block, kinds in enumerate(computed):
            for kind, values in kinds.items():
                held = tokens[block][kind][rows]
                stored = held[:, *part] if kind == "patches" else held
                # One copy, on the way to which torch rounds; that of numpy is the fastest check.
                torch.from_numpy(stored).copy_(values)
                if not np.isfinite(stored).all():
                    raise _unfit(stored, values, kind, block, ids[first:])


def _unfit(
    stored: NDArray[Any], values: torch.Tensor, kind: str, block: int, ids: NDArray[np.int64]
) -> CacheError:
    """The error that names the image whose token the stored dtype cannot hold, and the remedy."""
    row = int(np.flatnonzero(~np.isfinite(stored).all(axis=tuple(range(1, stored.ndim))))[0])
    largest = values[row].float().abs().max().item()
    remedy = (
        'set [cache] dtype = "float32"'
        if np.isfinite(largest)
        else 'set precision and dtype to "float32", or check the weights'
    )
    return CacheError(
        f"image {ids[row]}, block {block}: the largest token ({kind}) is {largest:.3g}, which "
        f"{stored.dtype} cannot hold: {remedy}"
    )
