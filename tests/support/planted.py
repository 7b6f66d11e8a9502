"""Tokens and responses with known separable readouts, for tests of solvers."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Planted:
    """Tokens, responses and the weights behind them; arrays as `fit_readouts` takes them."""

    x: np.ndarray
    r: np.ndarray
    row: np.ndarray
    column: np.ndarray
    channel: np.ndarray

    def split(self, n_validation):
        """x_train, r_train, x_val, r_val."""
        return (
            self.x[n_validation:], self.r[n_validation:],
            self.x[:n_validation], self.r[:n_validation],
        )  # fmt: skip


def plant(
    *, n_trials=1200, grid=(3, 4), n_channels=8, n_neurons=9, noise=0.0, seed=0, link="linear"
) -> Planted:
    """Smooth bumps in space times random channels, linear (kept positive) or through ELU + 1."""
    draw = np.random.default_rng(seed)
    shared = draw.standard_normal((n_trials, 1, 1, n_channels))
    x = draw.standard_normal((n_trials, *grid, n_channels)) + shared
    row, column = (
        np.exp(-((np.arange(n) - draw.uniform(0, n - 1, (n_neurons, 1))) ** 2)) for n in grid
    )
    channel = draw.standard_normal((n_neurons, n_channels))
    z = np.einsum("nhwk,mh,mw,mk->nm", x, row, column, channel)
    z /= z.std(axis=0)
    if link == "linear":
        rates = z - z.min(axis=0)
    else:
        rates = np.where(z > 0, z + 1, np.exp(np.minimum(z, 0)))
    r = rates + noise * draw.standard_normal(rates.shape)
    return Planted(
        x=x.astype(np.float32), r=np.maximum(r, 0).astype(np.float32),
        row=row, column=column, channel=channel,
    )  # fmt: skip
