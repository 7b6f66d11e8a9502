"""Two caches of the same images on different grids, and fits of neurons that read both."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cache import BlockShape, FeatureCache, Places, TokenShape, open_cache, plan_layout, write_cache
from stages.fit.task import FitTask
from stages.readouts.settings import ALSSettings, ReadoutSettings
from stages.tokens.combination import Combination, CombinedBlock
from support.poisson import poisson_task

#: A coarse grid, and a fine one whose tokens lie at the corners of their cells.
COARSE = BlockShape(
    grid=(2, 3), n_channels=5, places=Places(stride=(8, 8), first_centre=(4.0, 4.0))
)
FINE = BlockShape(grid=(4, 6), n_channels=3, places=Places(stride=(4, 4), first_centre=(0.5, 0.5)))


def token_cache(
    path: Path, shape: BlockShape, tokens: NDArray[np.floating], *, chunk_bytes: int = 2**10
) -> FeatureCache:
    """A cache of one block with these tokens of shape (n_images, row, column, channel)."""
    whole = TokenShape.of_blocks([shape], n_registers=0, has_cls=False, dtype="float16")
    with write_cache(
        path,
        settings={"backbone": {"n_blocks": 1, "name": path.stem}, "preprocessing": {}},
        provenance={},
        image_ids=np.arange(len(tokens)),
        shape=whole,
        layout=plan_layout(whole, n_images=len(tokens), chunk_bytes=chunk_bytes, shard_bytes=2**18),
    ) as writer:
        for shard in writer.missing_shards():
            ids = writer.shard_ids(shard)
            writer.write_shard(shard, [{"patches": tokens[ids].astype(np.float16)}])
        writer.finish()
    return open_cache(str(path))


def combined_task(
    folder: Path,
    *,
    n_images: int = 700,
    n_neurons: int = 12,
    unit: float = 1.0,
    settings: ReadoutSettings | None = None,
) -> FitTask:
    """A fit of neurons of which half read the coarse tokens, half the fine ones, in any `unit`."""
    draw = np.random.default_rng(0)
    shapes = {"coarse": COARSE, "fine": FINE}
    tokens = {
        name: draw.standard_normal((n_images, *shape.grid, shape.n_channels))
        for name, shape in shapes.items()
    }
    half = n_neurons // 2
    z = np.concatenate(
        [
            np.einsum("nhwc,mh,mw,mc->nm", x, *(
                each / np.linalg.norm(each, axis=1, keepdims=True)
                for each in (
                    draw.random((half, x.shape[1])),
                    draw.random((half, x.shape[2])),
                    draw.standard_normal((half, x.shape[3])),
                )
            ))
            for x in tokens.values()
        ],
        axis=1,
    )  # fmt: skip
    rates = 4 * np.where(z > 0, z + 1, np.exp(np.minimum(z, 0)))
    caches = {
        "coarse": token_cache(folder / "coarse.zarr", COARSE, tokens["coarse"]),
        "fine": token_cache(folder / "fine.zarr", FINE, tokens["fine"] * unit, chunk_bytes=2**11),
    }
    combination = Combination(
        sources=tuple(
            CombinedBlock(
                model=name, block=0, shape=shapes[name], dtype="float16",
                path=cache.path, key=cache.key,
            )
            for name, cache in caches.items()
        ),
        tokens="patch",
        resample="bilinear",
    )  # fmt: skip
    task = poisson_task(
        folder / "coarse.zarr", rates.astype(np.float32), draw, n_test=60,
        settings=settings or ReadoutSettings(als=ALSSettings(max_components=6, max_rounds=5)),
    )  # fmt: skip
    condition = replace(task.condition, model=combination.name, block=None, blocks=None)
    return replace(task, condition=condition, combined=combination)


def of_one(task: FitTask, number: int) -> FitTask:
    """The same neurons on one of the sources."""
    assert task.combined is not None
    source = task.combined.sources[number]
    condition = replace(task.condition, model=source.model, block=0, blocks="0")
    assert source.path is not None and source.key is not None
    return replace(
        task, condition=condition, combined=None, cache_path=source.path, cache_key=source.key
    )
