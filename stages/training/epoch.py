"""One point of a learning curve."""

from __future__ import annotations

from typing import NamedTuple


class Epoch(NamedTuple):
    """One epoch of a training.

    Parameters
    ----------
    epoch : int
        Its number, from 0.
    training_loss : float
        Mean Poisson loss per image and neuron.
    validation_score : float
        Mean validation variance explained.
    """

    epoch: int
    training_loss: float
    validation_score: float
