"""Most exciting images of some neurons, by ascent of their rates through the model.

python -m pipeline.examples.most_exciting_image runs/demo images.npy picture.png
"""

from __future__ import annotations

import sys
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from torchvision.transforms.v2.functional import gaussian_blur

from stages import load_model

NEURONS, STEPS = (0, 1, 2, 3), 60


def main(run: str, images: str, picture: str, *, steps: int = STEPS, **identity: Any) -> None:
    """Ascend from noise, and compare with the best of the given images."""
    raw = torch.from_numpy(np.load(images)).float()  # (n_images, row, column)
    model = load_model(run, **identity)
    mean, std = float(raw.mean()), float(raw.std())
    noise = torch.randn(len(NEURONS), *raw.shape[1:], generator=torch.Generator().manual_seed(0))
    image = mean + std * noise
    chosen = torch.arange(len(NEURONS))
    for _ in range(steps):
        pixels = image.clone().requires_grad_()
        rates = model.module(pixels)[chosen, list(NEURONS)]
        (gradient,) = torch.autograd.grad(rates.sum(), pixels)
        # A smooth step of constant size; then mean and contrast are those of the images again.
        step = gaussian_blur(gradient[:, None], [9, 9], [2.0, 2.0])[:, 0]
        image = image + 0.3 * std * step / step.std(dim=(1, 2), keepdim=True)
        image = image - image.mean(dim=(1, 2), keepdim=True)
        image = mean + std * image / image.std(dim=(1, 2), keepdim=True)
    with torch.no_grad():
        reached = model.module(image)[chosen, list(NEURONS)]
    shown = model.predict(raw.numpy())[:, list(NEURONS)]

    figure, axes = plt.subplots(2, len(NEURONS), figsize=(10, 3.6), layout="constrained")
    for n, (best, made) in enumerate(axes.T):
        for ax, pixels, rate in (
            (best, raw[int(shown[:, n].argmax())], shown[:, n].max()),
            (made, image[n], reached[n].item()),
        ):
            ax.imshow(pixels.numpy(), cmap="gray")
            ax.set_title(f"neuron {model.neurons[NEURONS[n]]}, rate {rate:.2f}", fontsize=9)
            ax.set_xticks([])
            ax.set_yticks([])
    axes[0, 0].set_ylabel("best of the images", fontsize=9)
    axes[1, 0].set_ylabel("by ascent", fontsize=9)
    figure.savefig(picture, dpi=150)


if __name__ == "__main__":
    main(*sys.argv[1:], tuning="frozen", tokens="patch", block=1)
