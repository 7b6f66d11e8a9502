"""One point of a learning curve."""

from __future__ import annotations

from typing import NamedTuple


class Epoch(NamedTuple):
    """Mean training loss per image and neuron, and the mean validation variance explained."""

    epoch: int
    training_loss: float
    validation_score: float
