"""Mean responses to repeated images, and variances within them, for scores of predictions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stages.feve import Repeats, checked_repeats
from stages.spread import varies

_Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Centred:
    """Sums over images of products of mean responses and predictions, less their weighted means.

    Arrays of shape (n_neurons,), but for the predictions themselves, (n_images, n_neurons).
    """

    of_means: _Array
    of_predictions: _Array
    both: _Array
    predictions: _Array


@dataclass(frozen=True, kw_only=True)
class ImageMeans:
    """Mean responses of images, 0 where there is none, and the variances within images.

    Arrays of shape (n_images, n_neurons), but for `noise`, `freedom`, `error_by_repeats` and the
    booleans, which have a value per neuron.
    """

    count: _Array
    mean: _Array
    within: _Array
    predictions: _Array
    error_by_repeats: _Array
    varies: NDArray[np.bool_]
    means_vary: NDArray[np.bool_]
    complete: NDArray[np.bool_]

    @property
    def seen(self) -> _Array:
        """1 where an image has a response, else 0."""
        return np.asarray(self.count > 0, dtype=np.float64)

    @property
    def variance(self) -> _Array:
        """Sample variance over an image's repeats."""
        return np.asarray(self.within / np.maximum(self.count - 1, 1))

    @property
    def freedom(self) -> _Array:
        """Degrees of freedom of the noise."""
        return np.asarray(np.maximum(self.count - 1, 0).sum(axis=0))

    @property
    def noise(self) -> _Array:
        """Variance over repeats, pooled over images; NaN where no image has two."""
        pooled = np.full(self.count.shape[1], np.nan)
        np.divide(self.within.sum(axis=0), self.freedom, out=pooled, where=self.freedom > 0)
        return pooled

    def weighted(self, weights: _Array) -> Centred:
        """Sums over images with weights, array of shape (n_images, n_neurons)."""
        total = np.maximum(weights.sum(axis=0), 1)
        y, v = (
            np.where(weights > 0, values - (weights * values).sum(axis=0) / total, 0)
            for values in (self.mean, self.predictions)
        )
        return Centred(
            of_means=(weights * y * y).sum(axis=0),
            of_predictions=(weights * v * v).sum(axis=0),
            both=(weights * y * v).sum(axis=0),
            predictions=v,
        )


def image_means(r_repeats: Repeats, predictions: ArrayLike) -> ImageMeans:
    """Mean responses and variances of what `stages.feve.fev_and_feve` takes."""
    r, p = checked_repeats(r_repeats, predictions)
    there = np.isfinite(r)
    count = there.sum(axis=1).astype(np.float64)
    smallest = np.where(there, r, np.inf).min(axis=(0, 1), initial=np.inf)
    smallest = np.where(np.isfinite(smallest), smallest, 0)
    shifted = np.where(there, r - smallest, 0)
    # Beside the smallest response: a neuron that always responds alike has means that do not vary.
    raised = np.where(count > 0, shifted.sum(axis=1) / np.maximum(count, 1), 0) + smallest
    first = np.take_along_axis(raised, np.argmax(count > 0, axis=0)[None], axis=0) if len(r) else 0
    shifted -= np.where(there, shifted.sum(axis=(0, 1)) / np.maximum(count.sum(axis=0), 1), 0)
    mean = shifted.sum(axis=1) / np.maximum(count, 1)
    within = np.square(np.where(there, shifted - mean[:, None], 0)).sum(axis=1)
    return ImageMeans(
        count=count,
        mean=mean,
        within=within,
        predictions=p,
        error_by_repeats=_error_by_repeats(shifted),
        varies=_vary(np.where(there, r, smallest).reshape(-1, r.shape[2])) & _vary(p, rounding=0),
        means_vary=_vary(np.where(count > 0, raised, first)),
        complete=np.asarray(there.all(axis=(0, 1))),
    )


def _error_by_repeats(r: _Array) -> _Array:
    """Noise power of mean responses over N: their variance less the signal power, complete data."""
    n_repeats = r.shape[1]
    if len(r) < 2 or n_repeats < 2:
        return np.full(r.shape[2], np.nan)
    total = r.sum(axis=1).var(axis=0, ddof=1)
    power = (total - r.var(axis=0, ddof=1).sum(axis=0)) / (n_repeats * (n_repeats - 1))
    return np.asarray(r.mean(axis=1).var(axis=0, ddof=1) - power)


def _vary(values: _Array, **rounding: float) -> NDArray[np.bool_]:
    return varies(values, **rounding) if len(values) else np.zeros(values.shape[1], dtype=bool)


def ratio(above: _Array, below: _Array, where: NDArray[np.bool_]) -> _Array:
    """A quotient, NaN where it has none."""
    out = np.full(above.shape, np.nan)
    return np.asarray(np.divide(above, below, out=out, where=where & (below > 0)))
