"""Computation of shards: every block's tokens of a frozen backbone.

On CPUs some batches are computed at a time, each by its share of the threads: threads that share a
batch wait for each other at every layer, and all of them for one that the writing of the last shard
holds up. One more batch is read and prepared meanwhile. Batches are cut at shard borders and their
size is fixed: tokens shift a little with the batch that they are computed in, and no setting of
speed may change them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Lock, Semaphore
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cache import CacheError, ShardTokens, ShardWriter
from stages.backbones.backbone import BATCH, Backbone
from stages.stimuli.preprocessing import Preprocessing
from stages.stimuli.stimuli import Stimuli

#: Most batches at a time: each takes memory for what the backbone holds between its layers.
MOST_BATCHES = 4


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
    threads = torch.get_num_threads()
    at_once = min(threads, MOST_BATCHES) if device.type == "cpu" else 1
    reading, places = Lock(), Semaphore(at_once)

    def compute(ids: NDArray[np.int64], first: int, tokens: ShardTokens) -> int:
        batch = ids[first : first + BATCH]
        # What reads files may go back and forth in them.
        with reading:
            raw = stimuli.read(batch)
        images = preprocessing(raw, device=device)
        with places:
            _compute(backbone, images, tokens, first, ids)
        return len(batch)

    with ExitStack() as stack:
        writing = stack.enter_context(ThreadPoolExecutor(1, "write"))
        # Threads that begin from now on have so many of torch's.
        stack.callback(torch.set_num_threads, threads)
        torch.set_num_threads(max(1, threads // at_once))
        computing = ThreadPoolExecutor(at_once + 1, "compute")
        # Where one batch fails, or the user stops, none is begun.
        stack.callback(computing.shutdown, cancel_futures=True)
        written = writing.submit(lambda: None)
        for shard in shards:
            ids = writer.shard_ids(shard)
            tokens: ShardTokens = [
                {
                    kind: np.empty((len(ids), *shape.item(kind, block)), shape.dtype)
                    for kind in shape.kinds()
                }
                for block in range(shape.n_blocks)
            ]
            firsts = range(0, len(ids), BATCH)
            for done in [computing.submit(compute, ids, first, tokens) for first in firsts]:
                progress(done.result())
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
