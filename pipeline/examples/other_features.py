"""Readouts on features from elsewhere: here the contrast of images in four orientations.

python -m pipeline.examples.other_features picture.png
"""

from __future__ import annotations

import sys

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from stages.feve import fev_and_feve
from stages.readouts import fit_readouts


def oriented_energy(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Features (n_images, row, column, 4) of images (n_images, row, column), 8 x 8 pixels each."""
    down, across = (np.gradient(images, axis=axis) for axis in (1, 2))
    angles = np.arange(4) * np.pi / 4
    slopes = np.multiply.outer(down, np.sin(angles)) + np.multiply.outer(across, np.cos(angles))
    n, rows, columns, _ = slopes.shape
    patches = np.square(slopes).reshape(n, rows // 8, 8, columns // 8, 8, 4)
    return np.asarray(np.sqrt(patches.mean(axis=(2, 4))), dtype=np.float32)


def main(picture: str, *, n_images: int = 900, n_neurons: int = 12) -> None:
    """Fit readouts to made-up responses, and draw the weights beside the true ones."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal((n_images, 32, 64), dtype=np.float32).cumsum(axis=2)
    x = oriented_energy(images)  # put your own features here
    place = rng.integers(0, (4, 8), (n_neurons, 2))
    angle = rng.integers(0, 4, n_neurons)
    drive = x[:, place[:, 0], place[:, 1], angle]
    rates = np.exp((drive - drive.mean(axis=0)) / drive.std(axis=0))
    r = rng.poisson(rates, (6, *rates.shape)).astype(np.float32)  # and your own responses

    test, validation, train = np.split(np.arange(n_images), (n_images // 6, n_images // 3))
    fit = fit_readouts(x[train], r[0, train], x[validation], r[0, validation], seed=0)
    fev, feve = fev_and_feve(r[:, test].swapaxes(0, 1), fit.predict(x[test]))

    figure, axes = plt.subplots(2, 3, figsize=(9, 4), layout="constrained")
    for neuron, ax in enumerate(axes.flat):
        ax.imshow(np.outer(fit.row_weights[neuron], fit.column_weights[neuron]), cmap="viridis")
        ax.plot(place[neuron, 1], place[neuron, 0], "r+", markersize=12)
        ax.set_title(f"neuron {neuron}: FEV {fev[neuron]:.2f}, FEVE {feve[neuron]:.2f}", fontsize=9)
        ax.axis("off")
    figure.suptitle("Spatial weights, and the true places (+)", fontsize=9)
    figure.savefig(picture, dpi=150)


if __name__ == "__main__":
    main(*sys.argv[1:])
