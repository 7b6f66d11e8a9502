"""Overlapping patches against the plain grid: are tokens at the plain grid's places the same?

    python -m benchmarks.overlap [--weights WEIGHTS] [--images N]

With `dense = "overlap"` a token attends to four times as many tokens at stride 8, and sixteen times
as many at stride 4, as the network was trained on. The table has the correlation of both passes
over images and channels, block by block, at the places that both grids have. `dense = "shift"` has
the plain tokens there by construction. Weights are random where none are named: "hub", or a path.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
import torch

from stages.backbones import Backbone, BackboneSettings, create_backbone
from stages.recordings.synthetic.format import synthetic_images
from stages.recordings.synthetic_settings import SyntheticSettings
from stages.stimuli.preprocessing import Preprocessing

SIZE = (64, 128)


def patches(backbone: Backbone, images: np.ndarray) -> list[np.ndarray]:
    """Patch tokens of every block, each of shape (n_images, row, column, channel)."""
    prepare = Preprocessing(
        crop=(0, SIZE[1]), input_size=SIZE, mean=backbone.mean, std=backbone.std
    )
    with torch.inference_mode():
        return [block["patches"].numpy() for block in backbone.tokens(prepare(images))]


def correlations(settings: BackboneSettings, stride: int, images: np.ndarray) -> list[float]:
    """Of each block, the correlation of overlapping patches with the plain grid where both are."""
    plain = create_backbone(settings, input_size=SIZE)
    dense = create_backbone(replace(settings, stride=stride, dense="overlap"), input_size=SIZE)
    step = dense.sampling.patch // stride
    return [
        float(np.corrcoef(one.ravel(), other[:, ::step, ::step].ravel())[0, 1])
        for one, other in zip(patches(plain, images), patches(dense, images), strict=True)
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--weights", default="random")
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--name", default="vit_small_patch16_dinov3.lvd1689m")
    chosen = parser.parse_args()
    settings = BackboneSettings(name=chosen.name, weights=chosen.weights)
    images = synthetic_images(SyntheticSettings(n_training=chosen.images))[: chosen.images]
    print(f"{chosen.name}, {chosen.weights} weights, {chosen.images} images")
    for stride in (8, 4):
        found = " ".join(f"{each:.3f}" for each in correlations(settings, stride, images))
        print(f"stride {stride}, correlation per block: {found}")


if __name__ == "__main__":
    main()
