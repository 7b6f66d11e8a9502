"""FEV and FEVE: how much of a neuron's variance can be explained, and how much of that is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cache.errors import UserError

#: Neurons whose fraction of explainable variance is above this count as valid.
VALID_FEV = 0.15


def fev_and_feve(
    r_repeats: NDArray[np.floating] | Sequence[NDArray[np.floating]],
    predictions: NDArray[np.floating],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fraction of explainable variance (FEV), and fraction of it that is explained (FEVE).

    With test responses r[i, j] of image i and repeat j, and predictions p[i] (Cadena et al. 2019,
    PLoS Computational Biology 15(4), e1006897),

        total = var of all r[i, j] (ddof 1)
        noise = mean over i of var_j r[i, j] (ddof 1)
        FEV   = (total - noise) / total
        FEVE  = 1 - (mean of (r - p)^2 - noise) / (total - noise)

    Images with a single repeat count in the total and in the error but not in the noise.

    Parameters
    ----------
    r_repeats : array of shape (n_images, n_repeats, n_neurons), or list of array
        Test responses, NaN where a repeat is missing; or one array of shape
        (n_repeats_i, n_neurons) per image.
    predictions : array of shape (n_images, n_neurons)
        One prediction per image, in the units of the responses.

    Returns
    -------
    fev, feve : array of shape (n_neurons,)
        FEV is NaN where a neuron's total variance is 0 or no image has two repeats, and may be
        negative; FEVE is NaN where nothing is explainable (total <= noise).

    Raises
    ------
    UserError
        Shapes that disagree, or predictions that are not finite.
    """
    r = pad_repeats(r_repeats)
    p = np.asarray(predictions, dtype=np.float64)
    if p.shape != (r.shape[0], r.shape[2]):
        raise UserError(
            f"predictions have shape {p.shape}, but the test responses have {r.shape[0]} images "
            f"and {r.shape[2]} neurons: pass one prediction per image and neuron"
        )
    if not np.isfinite(p).all():
        raise UserError(
            f"{int((~np.isfinite(p)).any(axis=0).sum())} neurons have predictions that are not "
            "finite: check the readouts and the tokens they were given"
        )
    total, noise = _total_and_noise(r)
    error = _mean_where(np.square(r - p[:, None, :]), np.isfinite(r), axis=(0, 1))
    explainable = total - noise
    fev = np.full(total.shape, np.nan)
    np.divide(explainable, total, out=fev, where=total > 0)
    feve = np.full(total.shape, np.nan)
    np.divide(error - noise, explainable, out=feve, where=explainable > 0)
    return fev, 1 - feve


def pad_repeats(
    r_repeats: NDArray[np.floating] | Sequence[NDArray[np.floating]],
) -> NDArray[np.float64]:
    """Test responses as one NaN-padded array of shape (n_images, n_repeats, n_neurons).

    Raises
    ------
    UserError
        Not 3 axes, or images with different numbers of neurons.
    """
    if isinstance(r_repeats, np.ndarray) and r_repeats.dtype != object:
        if r_repeats.ndim != 3:
            raise UserError(
                f"test responses have shape {r_repeats.shape}: expected (image, repeat, neuron)"
            )
        return np.asarray(r_repeats, dtype=np.float64)
    images = [np.asarray(image, dtype=np.float64) for image in r_repeats]
    widths = {image.shape[-1] for image in images if image.ndim == 2}
    if len(widths) != 1 or any(image.ndim != 2 for image in images):
        raise UserError(
            "test responses of the images must each have shape (repeat, neuron) with the same "
            f"neurons; found {sorted({image.shape for image in images})[:4]}"
        )
    padded = np.full((len(images), max(len(i) for i in images), widths.pop()), np.nan)
    for row, image in enumerate(images):
        padded[row, : len(image)] = image
    return padded


def _total_and_noise(
    r: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Variance over all responses, and mean within-image variance, each of shape (n_neurons,)."""
    there = np.isfinite(r)
    total = _variance(r, there, axis=(0, 1))
    within = _variance(r, there, axis=(1,))
    repeated = there.sum(axis=1) >= 2
    return total, _mean_where(within, repeated, axis=(0,))


def _mean_where(
    values: NDArray[np.float64], there: NDArray[np.bool_], *, axis: tuple[int, ...]
) -> NDArray[np.float64]:
    count = there.sum(axis=axis)
    summed = np.where(there, values, 0.0).sum(axis=axis)
    mean = np.full(summed.shape, np.nan)
    np.divide(summed, count, out=mean, where=count > 0)
    return mean


def _variance(
    values: NDArray[np.float64], there: NDArray[np.bool_], *, axis: tuple[int, ...]
) -> NDArray[np.float64]:
    """Variance with ddof 1 over the values that are there; NaN for fewer than two."""
    count = there.sum(axis=axis, keepdims=True)
    # Shifted by the smallest value, a constant neuron's variance is 0 and not a rounding error.
    smallest = np.where(there, values, np.inf).min(axis=axis, keepdims=True)
    shifted = np.where(there, values - np.where(count > 0, smallest, 0.0), 0.0)
    mean = shifted.sum(axis=axis, keepdims=True) / np.maximum(count, 1)
    squares = np.square(np.where(there, shifted - mean, 0.0)).sum(axis=axis)
    degrees = np.squeeze(count, axis=axis) - 1
    variance = np.full(squares.shape, np.nan)
    np.divide(squares, degrees, out=variance, where=degrees > 0)
    return variance
