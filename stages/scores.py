"""Variance explained and correlation, neuron by neuron."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def variance_explained(
    responses: NDArray[np.floating], predictions: NDArray[np.floating]
) -> NDArray[np.float64]:
    """1 - SSE/SST of single trials, NaN for a neuron that does not vary.

    Parameters
    ----------
    responses, predictions : array of shape (n_images, n_neurons)

    Returns
    -------
    array of shape (n_neurons,)
    """
    r = responses.astype(np.float64)
    errors = np.square(r - predictions).sum(axis=0)
    total = np.square(r - r.mean(axis=0)).sum(axis=0)
    explained = np.full(r.shape[1], np.nan)
    np.divide(errors, total, out=explained, where=total > 0)
    return 1 - explained


def correlation(
    responses: NDArray[np.floating], predictions: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Pearson correlation over images, NaN where either side does not vary.

    Parameters
    ----------
    responses, predictions : array of shape (n_images, n_neurons)

    Returns
    -------
    array of shape (n_neurons,)
    """
    r = responses.astype(np.float64) - responses.mean(axis=0, dtype=np.float64)
    p = predictions.astype(np.float64) - predictions.mean(axis=0, dtype=np.float64)
    scale = np.sqrt(np.square(r).sum(axis=0) * np.square(p).sum(axis=0))
    out = np.full(r.shape[1], np.nan)
    np.divide((r * p).sum(axis=0), scale, out=out, where=scale > 0)
    return out
