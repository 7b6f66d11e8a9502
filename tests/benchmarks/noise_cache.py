"""Caches of noise, and neurons that read one position of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from support.poisson import poisson_task

from cache import TokenShape, open_cache, plan_layout, write_cache
from stages.fit.task import FitTask
from stages.readouts import ReadoutSettings

N_TEST = 60


def noise_fit(
    folder: Path,
    *,
    n_images: int,
    n_neurons: int,
    n_channels: int = 384,
    grid: tuple[int, int] = (4, 8),
) -> FitTask:
    """A fit of so many images, the test images among them; caches are made once.

    The tokens' spectrum falls as a ViT's; half of the responses' variance is noise.
    """
    shape = TokenShape(n_blocks=1, grid=grid, n_channels=n_channels, n_registers=0, dtype="float16")
    ids = np.arange(n_images)
    path = folder / f"noise-{n_images}-{n_channels}.zarr"
    falling = (np.arange(1, n_channels + 1) ** -0.75).astype(np.float32)
    with write_cache(
        path,
        settings={"backbone": {"n_blocks": 1}},
        provenance={},
        image_ids=ids,
        shape=shape,
        layout=plan_layout(shape, n_images=n_images),
    ) as writer:
        for shard in writer.missing_shards():
            n = len(writer.shard_ids(shard))
            draw = np.random.default_rng(shard)
            patches = draw.standard_normal((n, *shape.item("patches")), dtype=np.float32) * falling
            cls = np.zeros((n, n_channels))
            writer.write_shard(shard, [{"patches": patches.astype(np.float16), "cls": cls}])
        if not writer.cache.complete:
            writer.finish()
    cache = open_cache(str(path))
    draw = np.random.default_rng(0)
    x = cache.block(0).array("patches")[:, 1, 2].astype(np.float32)
    z = x @ draw.standard_normal((n_channels, n_neurons), dtype=np.float32)
    z *= 0.85 / z.std(axis=0)
    rates = np.where(z > 0, z + 1, np.exp(np.minimum(z, 0)))
    return poisson_task(path, rates, draw, n_test=N_TEST, settings=ReadoutSettings())
