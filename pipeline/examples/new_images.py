"""Rates of a fitted condition for new images, drawn below the images.

python -m pipeline.examples.new_images runs/demo images.npy picture.png
"""

from __future__ import annotations

import sys
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from stages import load_model

#: Images that the picture has room for.
SHOWN = 6


def main(run: str, images: str, picture: str, **identity: Any) -> None:
    """Predict, and draw the first images with the rates of all neurons."""
    raw = np.load(images)  # (n_images, row, column), as the recording's own images
    model = load_model(run, **identity)
    rates = model.predict(raw)  # (n_images, n_neurons), in the recording's units

    figure, axes = plt.subplots(
        2, SHOWN, figsize=(10, 4), layout="constrained", height_ratios=(1, 2), sharey="row"
    )
    # Each neuron beside its own mean: which images does it like?
    relative = rates / rates.mean(axis=0)
    order = np.argsort(relative[0])
    for n, (image, bars) in enumerate(axes.T):
        image.imshow(raw[n], cmap="gray")
        image.axis("off")
        bars.barh(np.arange(len(order)), relative[n, order], color="#0072B2")
        bars.axvline(1, color="black", linewidth=0.5)
        bars.set_xlabel("rate / mean rate")
    axes[1, 0].set_ylabel("neurons, in the order of the first image")
    figure.suptitle(f"Predicted rates, {model.readouts.condition.slug}", fontsize=9)
    figure.savefig(picture, dpi=150)


if __name__ == "__main__":
    main(*sys.argv[1:], tuning="frozen", tokens="patch", block=1)
