"""Comparison of a cache with its backbone: tokens of some images are computed again."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from cache import Fault, FeatureCache
from stages.backbones.backbone import BATCH
from stages.extract.task import Extraction

#: Largest difference that rounding explains, by precision: a part of the size of an image's tokens
#: (root mean square). Storage in float16 makes 2e-4; another machine or batch makes 1e-5 in float32
#: and 1e-2 in bfloat16. Another checkpoint, crop or image makes about 1.
TOLERANCE = {"float32": 1e-3, "bfloat16": 0.05}


def recompute_tokens(
    cache: FeatureCache,
    made: Extraction,
    *,
    n_images: int,
    progress: Callable[[int], None],
) -> list[Fault]:
    """Compute the tokens of random images again and compare them with the stored ones.

    Images that the cache has for others are left alone. All are chosen where the cache holds fewer.
    Progress is told as batches have been compared.

    Returns
    -------
    list of Fault
        One per image, block and array that differ by more than `TOLERANCE`.
    """
    written = np.repeat(cache.shards_done, cache.images_per_shard)[: len(cache.image_ids)]
    held = np.intersect1d(cache.image_ids[written], made.stimuli.ids)
    rng = np.random.default_rng(0)
    chosen = np.sort(rng.choice(held, min(n_images, len(held)), replace=False))
    faults: list[Fault] = []
    for first in range(0, len(chosen), BATCH):
        ids = chosen[first : first + BATCH]
        faults += _compare(cache, made, ids)
        progress(len(ids))
    return faults


def _compare(cache: FeatureCache, made: Extraction, ids: NDArray[np.int64]) -> Iterator[Fault]:
    device = next(made.backbone.model.parameters()).device
    allowed = TOLERANCE[made.backbone.precision]
    tokens = made.backbone.tokens(made.preprocessing(made.stimuli.read(ids), device=device))
    smallest = torch.finfo(torch.float64).tiny
    for index in cache.blocks:
        block = cache.block(index)
        for kind in cache.kinds:
            expected = tokens[index][kind].double().cpu().flatten(1)
            stored = torch.from_numpy(block.read(kind, ids)).double().flatten(1)
            off = (stored - expected).norm(dim=1) / expected.norm(dim=1).clamp_min(smallest)
            for image, difference in zip(ids, off.tolist(), strict=True):
                if not difference <= allowed:
                    yield Fault(
                        path=f"blocks/{index:02d}/{kind}",
                        block=index,
                        array=kind,
                        images=(int(image), int(image)),
                        problem=f"differs from the recomputed tokens by {difference:.2g} of their "
                        f"size, rounding explains {allowed:g}",
                    )
