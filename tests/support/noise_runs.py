"""An experiment whose cache holds noise, written without a backbone, and fits of it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cache import TokenShape, open_cache, pack, plan_copy, plan_layout, write_cache
from pipeline import commands
from pipeline.experiment import load_experiment
from pipeline.terminal import Terminal
from pipeline.variant.inputs import Inputs
from stages.backbones.weights import random_identity
from stages.stimuli.preprocessing import Preprocessing
from stages.tokens.identity import token_settings
from support.tiny import write_experiment

SHAPE = TokenShape(n_blocks=12, grid=(2, 4), n_channels=96, n_registers=4, dtype="float16")


def write_noise_experiment(folder: Path, *, seed: int = 0, stop_after: int | None = None) -> Path:
    """An experiment whose cache holds noise, written without a backbone, and packed beside it.

    With another `seed` it is that of another backbone, which the experiment refuses; with
    `stop_after` only so many of its shards are written.
    """
    path = write_experiment(folder, n_train=80, n_validation=10)
    file = load_experiment(path)
    (variant,) = file.variants
    sources = Inputs(variant)
    assert sources.digest is not None and sources.crop is not None
    ids = sources.required_stimuli.ids
    settings = token_settings(
        variant.backbone,
        n_blocks=SHAPE.n_blocks,
        weights=random_identity(replace(variant.backbone, seed=seed), recipe=1),
        preprocessing=Preprocessing(
            crop=sources.crop, input_size=variant.stimuli.size, mean=(0.5,) * 3, std=(0.2,) * 3
        ),
        dtype=SHAPE.dtype,
    )
    rng = np.random.default_rng(seed)
    with write_cache(
        Path(file.cache_path(variant)),
        settings=settings,
        provenance={"weights": "random"},
        image_ids=ids,
        image_sha256=sources.digest.images.hashes,
        shape=SHAPE,
        layout=plan_layout(SHAPE, n_images=len(ids), chunk_bytes=2**15, shard_bytes=2**20),
    ) as writer:
        for shard in writer.missing_shards()[:stop_after]:
            n = len(writer.shard_ids(shard))
            writer.write_shard(
                shard,
                [
                    {k: rng.standard_normal((n, *SHAPE.item(k))) for k in SHAPE.kinds()}
                    for _ in range(SHAPE.n_blocks)
                ],
            )
        if stop_after is not None:
            return path
        writer.finish()
    pack(plan_copy(open_cache(file.cache_path(variant))), path.parent / "features.zarr.zip")
    return path


def local(experiment: Path) -> Path:
    file = load_experiment(experiment)
    return Path(file.cache_path(file.variants[0]))


def options(output: Path, cache: str, *, blocks: str = "[4]") -> list[str]:
    settings = {
        "cache.path": cache,
        "run.output": output,
        "readout.blocks": blocks,
        "readout.tokens": '["patch"]',
    }
    return [f"{name}={value}" for name, value in settings.items()]


def fit(experiment: Path, output: Path, cache: str, *, blocks: str = "[4]") -> pd.DataFrame:
    """Results of every neuron; what `vitv1 fit` does but for figures."""
    file = load_experiment(experiment, options(output, cache, blocks=blocks))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.commands.report_run", lambda run, terminal: [run / "report.html"])
        commands.run(file, Terminal(quiet=True), only="fit")
    return pd.read_parquet(output / "results/neurons.parquet")
