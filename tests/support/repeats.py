"""Responses to repeated images whose truth is known, with predictions of them."""

import numpy as np


def population(n_images=60, n_repeats=8, n_neurons=5, *, noise=1.5, r2=0.5, seed=0):
    """Responses, predictions whose squared correlation with the signal is exactly r2."""
    rng = np.random.default_rng(seed)
    signal, other = rng.standard_normal((2, n_images, n_neurons))
    signal = (signal - signal.mean(axis=0)) / signal.std(axis=0)
    other -= other.mean(axis=0)
    other -= signal * (other * signal).mean(axis=0)
    predictions = np.sqrt(r2) * signal + np.sqrt(1 - r2) * other / other.std(axis=0)
    drawn = rng.standard_normal((n_images, n_repeats, n_neurons))
    return 7 + 3 * (signal[:, None] + noise * drawn), 2 + 0.1 * predictions


def with_missing(r, seed=1):
    """Some repeats missing, a third of the images shown once, one not at all."""
    r, rng = r.copy(), np.random.default_rng(seed)
    r[rng.random(r.shape) < 0.2] = np.nan
    r[: len(r) // 3, 1:] = np.nan
    r[-1] = np.nan
    return r
