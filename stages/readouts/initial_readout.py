"""Where readouts start that are trained from scratch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from stages.readouts.readout import Readout


def initial_readout(
    neurons: NDArray[np.int64],
    grid: Sequence[int],
    *,
    seed: int,
    space_scale: float,
    channel_scale: float,
) -> Readout:
    """Normal weights and zero bias, drawn by neuron so that none depends on another.

    Space takes the drawn weights' absolute values: an all-negative draw would be clamped to zero.
    An axis of length 1 keeps the weight 1: its weight is a scale that the channels have already,
    and on the 1 x 1 grid of CLS tokens, row and column that reach zero together never leave it.

    Parameters
    ----------
    neurons : array of shape (n_neurons,)
        Who each neuron is: with the seed it decides what is drawn.
    grid : sequence of int
        Rows, columns and channels of the tokens.
    space_scale, channel_scale : float
        Standard deviation of the drawn weights.
    """
    drawn = np.stack(
        [
            np.random.default_rng([seed, int(neuron)]).standard_normal(sum(grid))
            for neuron in neurons
        ]
    )
    row, column, channel = np.split(drawn, np.cumsum(grid)[:2], axis=1)
    readout = Readout(
        row_weights=_scaled(np.abs(row), space_scale),
        column_weights=_scaled(np.abs(column), space_scale),
        channel_weights=_scaled(channel, channel_scale),
        bias=torch.zeros(len(neurons)),
    )
    for space in (readout.row_weights, readout.column_weights):
        if space.shape[1] == 1:
            space.requires_grad_(False).fill_(1)
    return readout


def _scaled(drawn: NDArray[np.float64], scale: float) -> torch.Tensor:
    return torch.from_numpy((scale * drawn).astype(np.float32))
