"""Fraction of the explainable variance that is explained up to a linear map, with its interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stages.feve import Repeats
from stages.scores.image_means import ImageMeans, image_means, ratio

_Array = NDArray[np.float64]

#: Simulated estimates behind an end of an interval, and halvings of [0, 1] that find the end.
SIMULATED, HALVINGS = 500, 10

#: Neurons whose intervals are found together.
TOGETHER = 256


class Explained(NamedTuple):
    """An estimate of r2 and its interval, arrays of shape (n_neurons,)."""

    r2: _Array
    low: _Array
    high: _Array


def r2_er(
    r_repeats: Repeats, predictions: ArrayLike, *, level: float = 0.95, seed: int = 0
) -> Explained:
    """Squared correlation of predictions with the expected responses, without the bias of noise.

    The estimate, and the interval that they call exactly calibrated, are those of Pospisil and Bair
    2021 (PLoS Computational Biology 17(8), e1009212): with mean responses y and predictions v of m
    images, both less their means, and noise variance s2 of N repeats each,

        r2 = ((v . y)^2 - |v|^2 s2 / N) / (|v|^2 |y|^2 - (m - 1) |v|^2 s2 / N)

    An end of the interval is the r2 under which an estimate as high, or as low, has the probability
    (1 - level) / 2. Noise variance and dynamic range are drawn there from what the data leave open:
    here not by a Markov chain, but from the chi-squared distribution of the one and the normal
    approximation of the other. Unequal repeats enter by the mean over images of 1 / N_i, and in the
    numerator by its mean weighted with v^2.

    The noise is taken to be the same for all images. Counts of spikes are so only after their
    square root is taken, of responses and predictions alike.

    Parameters
    ----------
    r_repeats, predictions
        As for `stages.feve.fev_and_feve`.
    level : float
        Of the interval.
    seed : int
        Of the draws; all neurons share them.

    Returns
    -------
    Explained
        `r2`, `low` and `high`. The estimate may be below 0 or above 1, the interval is not. NaN
        where nothing is explainable or predictions do not vary; no interval from fewer than 4
        images.
    """
    return explained(image_means(r_repeats, predictions), level=level, seed=seed)


def explained(means: ImageMeans, *, level: float = 0.95, seed: int = 0) -> Explained:
    """`r2_er` from sums over images."""
    centred, n_images = means.weighted(means.seen), means.seen.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = np.where(means.seen > 0, 1 / np.maximum(means.count, 1), 0)
        mean_inverse = inverse.sum(axis=0) / n_images
        own = (np.square(centred.predictions) * inverse).sum(axis=0) / centred.of_predictions
        above = np.square(centred.both) / centred.of_predictions - own * means.noise
        below = centred.of_means - (n_images - 1) * mean_inverse * means.noise
    r2 = ratio(above, below, means.varies)
    low, high = np.full((2, len(r2)), np.nan)
    told = np.isfinite(r2) & (n_images >= 4)
    draws = np.random.default_rng(seed).standard_normal((6, SIMULATED, 1))
    for some in np.array_split(np.flatnonzero(told), max(1, -(-told.sum() // TOGETHER))):
        known = _Known(
            estimate=r2[some],
            noise=(means.noise * mean_inverse)[some],
            freedom=means.freedom[some],
            squares=centred.of_means[some],
            n_images=n_images[some],
        )
        low[some] = _end(known, draws, 1 - (1 - level) / 2)
        high[some] = _end(known, draws, (1 - level) / 2)
    return Explained(r2, low, high)


@dataclass(frozen=True, kw_only=True)
class _Known:
    """What is known of some neurons, arrays of shape (n_neurons,).

    `noise` is the variance of a mean response, `squares` the sum of squares of the mean responses,
    less their mean.
    """

    estimate: _Array
    noise: _Array
    freedom: _Array
    squares: _Array
    n_images: _Array


def _end(known: _Known, draws: _Array, share: float) -> _Array:
    """The r2 in [0, 1] under which so many simulated estimates are below the one at hand."""
    noise = known.noise * known.freedom / _chi_squared(known.freedom, draws[0])
    spread = noise * np.sqrt(2 * known.n_images + 4 * known.squares / noise)
    signal = known.squares - (known.n_images - 1) * noise + spread * draws[1]
    signal = np.maximum(signal, 0)
    measured = noise * _chi_squared(known.freedom, draws[2]) / known.freedom
    beside = noise * _chi_squared(known.n_images - 3, draws[3])
    low, high = np.zeros_like(known.estimate), np.ones_like(known.estimate)
    for _ in range(HALVINGS):
        r2 = (low + high) / 2
        along = np.square(np.sqrt(r2 * signal) + np.sqrt(noise) * draws[4])
        across = np.square(np.sqrt((1 - r2) * signal) + np.sqrt(noise) * draws[5]) + beside
        below = along + across - (known.n_images - 1) * measured
        # Nothing explainable was found there: as good as any estimate, and so on either side.
        simulated = np.where(below > 0, (along - measured) / np.where(below > 0, below, 1), np.nan)
        found = np.isfinite(simulated).sum(axis=0)
        fewer = (simulated < known.estimate).sum(axis=0) > share * found
        low, high = np.where(fewer, r2, low), np.where(fewer, high, r2)
    return np.where(high == 1, 1.0, np.where(low == 0, 0.0, (low + high) / 2))


def _chi_squared(freedom: _Array, normal: _Array) -> _Array:
    """Chi-squared numbers from normal ones (Wilson and Hilferty 1931, PNAS 17, 684)."""
    share = 2 / (9 * np.maximum(freedom, 1))
    return np.asarray(freedom * np.maximum(1 - share + np.sqrt(share) * normal, 1e-3) ** 3)
