"""Receptive fields of some neurons: gradients of their rates, averaged over images.

python -m pipeline.examples.receptive_field runs/demo images.npy picture.png
"""

from __future__ import annotations

import sys
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch

from stages import load_model

#: Neurons that are drawn.
NEURONS = (0, 1, 2, 3)


def main(run: str, images: str, picture: str, **identity: Any) -> None:
    """Average the gradients, and draw their mean and their mean size."""
    raw = torch.from_numpy(np.load(images)).float()  # (n_images, row, column)
    model = load_model(run, **identity)
    figure, axes = plt.subplots(
        2, len(NEURONS), figsize=(10, 3.6), layout="constrained", squeeze=False
    )
    for (mean_of, size_of), neuron in zip(axes.T, NEURONS, strict=True):
        gradients = []
        for batch in raw.split(32):
            pixels = batch.clone().requires_grad_()
            rate = model.module(pixels)[:, neuron].sum()
            gradients.append(torch.autograd.grad(rate, pixels)[0])
        every = torch.cat(gradients)
        # Their mean is the linear part; their size also shows what complex cells see.
        mean, size = every.mean(dim=0).numpy(), every.square().mean(dim=0).sqrt().numpy()
        most = np.abs(mean).max()
        mean_of.imshow(mean, cmap="RdBu_r", vmin=-most, vmax=most)
        size_of.imshow(size, cmap="magma")
        mean_of.set_title(f"neuron {model.neurons[neuron]}", fontsize=9)
        for ax in (mean_of, size_of):
            ax.set_xticks([])
            ax.set_yticks([])
    axes[0, 0].set_ylabel("mean gradient", fontsize=9)
    axes[1, 0].set_ylabel("r.m.s. gradient", fontsize=9)
    figure.savefig(picture, dpi=150)


if __name__ == "__main__":
    main(*sys.argv[1:], tuning="frozen", tokens="patch", block=1)
