"""Correlations of predictions with responses to repeated images, as other work reports them.

All take what `stages.feve.fev_and_feve` takes. An image counts for a neuron where it has a response
of it, so that repeats may be unequal and missing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stages.feve import Repeats
from stages.scores.image_means import ImageMeans, image_means, ratio

_Array = NDArray[np.float64]


def single_trial_correlation(r_repeats: Repeats, predictions: ArrayLike) -> _Array:
    """Correlation of predictions with all single responses, the score of the Sensorium competition.

    Every repeat of an image has that image's prediction (Willeke et al. 2022, arXiv:2206.08666).

    Returns
    -------
    array of shape (n_neurons,)
        NaN where responses or predictions do not vary.
    """
    return of_single_trials(image_means(r_repeats, predictions))


def of_single_trials(means: ImageMeans) -> _Array:
    """`single_trial_correlation` from sums over images."""
    centred = means.weighted(means.count)
    total = means.within.sum(axis=0) + centred.of_means
    return ratio(centred.both, np.sqrt(total * centred.of_predictions), means.varies)


def test_correlation(r_repeats: Repeats, predictions: ArrayLike) -> _Array:
    """Correlation of predictions with mean responses, the Sensorium "correlation to average".

    From images with any response (Willeke et al. 2022, arXiv:2206.08666).

    Returns
    -------
    array of shape (n_neurons,)
        NaN where mean responses or predictions do not vary.
    """
    return of_averages(image_means(r_repeats, predictions))


def of_averages(means: ImageMeans) -> _Array:
    """`test_correlation` from sums over images."""
    centred = means.weighted(means.seen)
    scale = np.sqrt(centred.of_means * centred.of_predictions)
    return ratio(centred.both, scale, means.varies & means.means_vary)


def cc_norm(r_repeats: Repeats, predictions: ArrayLike) -> _Array:
    """Normalised correlation coefficient: 1 where predictions are proportional to the signal.

    Covariance of predictions and mean responses over the square root of the predictions' variance
    times the signal power (Schoppe et al. 2016, Frontiers in Computational Neuroscience 10, 10).
    The signal power is that of Sahani and Linden 2003: for N repeats R_n of all images

        (var(sum of R_n) - sum of var(R_n)) / (N (N - 1))

    Where repeats are missing or unequal, it is the variance of the mean responses less the mean
    over images of var_j r[i, j] / N_i. The two have one expectation. An image with a single repeat
    takes the others' mean variance.

    Returns
    -------
    array of shape (n_neurons,)
        NaN where the signal power is not positive, or predictions do not vary. Noise in the signal
        power can make it exceed 1.
    """
    return normalised(image_means(r_repeats, predictions))


def normalised(means: ImageMeans) -> _Array:
    """`cc_norm` from sums over images."""
    centred, n_images = means.weighted(means.seen), means.seen.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = centred.of_means / (n_images - 1)
        repeated = np.where(means.count >= 2, means.variance, means.noise)
        error = np.where(means.seen > 0, repeated / np.maximum(means.count, 1), 0).sum(axis=0)
        error = np.where(means.complete, means.error_by_repeats, error / n_images)
        power = variance - error
        scale = np.sqrt(centred.of_predictions * np.maximum(power, 0) * (n_images - 1))
    return ratio(centred.both, scale, means.varies)
