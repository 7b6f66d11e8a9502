"""Neurons that read a CNN's tokens, a ViT's, or both: one combined readout against either alone.

    python -m benchmarks.combined

Whole commands on tiny backbones of random weights, whose tokens lie on different grids. The neurons
are planted, half of their variance noise; FEVE is that of held-out test images.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cache import open_cache
from pipeline.cli.main import main as vitv1

#: Block that is read of each backbone.
BLOCKS = {"test_vit": 3, "test_convnext": 1}
TRAINING, TEST, REPEATS, NEURONS = 1200, 120, 10, 60

EXPERIMENT = """
[recording]
format = "arrays"
name = "planted"
path = "planted"

[backbone]
name = ["test_vit", "test_convnext"]
weights = "random"

[readout]
blocks = [1, 3]
tokens = ["patch"]

[[readout.combine]]
sources = ["test_vit:3", "test_convnext:1"]

[[readout.combine]]
sources = ["test_vit:3", "test_convnext:1"]
resample = "bilinear"

[run]
output = "{folder}/runs"
device = "cpu"
"""


def images(draw: np.random.Generator) -> NDArray[np.float32]:
    """Images whose amplitudes fall with frequency as those of natural ones do."""
    shape = (64, 128)
    down, along = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])
    falling = 1 / np.maximum(np.hypot(down, along), 1 / shape[1])
    noise = draw.standard_normal((TRAINING + TEST, *shape))
    return np.fft.irfft2(np.fft.rfft2(noise) * falling, s=shape).astype(np.float32)


def read_out(tokens: NDArray[np.float16], draw: np.random.Generator) -> NDArray[np.float64]:
    """Of each neuron a bump in space times a mixture of leading components, standardised."""
    x = tokens.astype(np.float64)
    x -= x.mean(axis=0)
    _, values, components = np.linalg.svd(x[::4].reshape(-1, x.shape[-1]), full_matrices=False)
    channel = draw.standard_normal((NEURONS, 8)) / values[:8] @ components[:8]
    space = [
        np.exp(-0.5 * ((np.arange(n) + 0.5) / n - draw.uniform(0.2, 0.8, (NEURONS, 1))) ** 2 / 0.01)
        for n in x.shape[1:3]
    ]
    z = np.einsum("nhwc,mh,mw,mc->nm", x, *space, channel, optimize=True)
    return z / z.std(axis=0)


def responses(z: NDArray[np.float64], draw: np.random.Generator) -> NDArray[np.float32]:
    """Noisy rates of shape (n_images, n_repeats, n_neurons); training images are shown once."""
    rates = np.where(z > 0, z + 1, np.exp(np.minimum(z, 0)))[:, None]
    noisy = rates + draw.standard_normal((len(z), REPEATS, z.shape[1])) * rates.std(axis=0)
    noisy[:TRAINING, 1:] = np.nan
    return np.maximum(noisy, 0).astype(np.float32)


def main() -> None:
    """Print the table."""
    draw = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "planted").mkdir()
        file = folder / "combined.toml"
        file.write_text(EXPERIMENT.format(folder=folder))
        np.save(folder / "planted/images.npy", images(draw))
        unknown = responses(np.zeros((TRAINING + TEST, 2 * NEURONS)), draw)
        np.save(folder / "planted/responses.npy", unknown)
        assert vitv1(["extract", str(file), "--quiet"]) == 0
        read = []
        for name, block in BLOCKS.items():
            cache = open_cache(folder / f"runs/features-{name}-64x128.zarr")
            read.append(read_out(cache.block(block).read("patches", cache.image_ids), draw))
        halves = np.where(np.arange(NEURONS) % 2, *read)
        both = (read[0] + read[1]) / 2**0.5
        np.save(folder / "planted/responses.npy", responses(np.hstack([halves, both]), draw))
        assert vitv1(["fit", str(file), "--quiet"]) == 0
        neurons = pd.read_parquet(folder / "runs/results/neurons.parquet")
    neurons = neurons[neurons["fev"] > 0.15]
    print("| what | measured | target |\n|---|---|---|")
    for what, some in {
        "half of the neurons read each": neurons["neuron"] < NEURONS,
        "every neuron reads both": neurons["neuron"] >= NEURONS,
    }.items():
        mean = neurons[some].groupby(["model", "block"], dropna=False)["feve"].mean()
        alone = {name: mean[name, block] for name, block in BLOCKS.items()}
        joined = mean[mean.index.get_level_values("block").isna()].droplevel("block")
        for model, feve in joined.items():
            said = ", ".join(f"{name} {each:.3f}" for name, each in alone.items())
            better = feve - max(alone.values())
            how = "bilinear" if "bilinear" in str(model) else "nearest"
            print(f"| {what}, {how}: combined {feve:.3f}, {said} | {better:+.3f} | >= +0.05 |")


if __name__ == "__main__":
    main()
