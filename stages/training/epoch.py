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

    def told(self, most: int) -> str:
        """A line about it, the last of at most so many."""
        return (
            f"epoch {self.epoch + 1} of at most {most}: loss {self.training_loss:.4f}, "
            f"validation {self.validation_score:.4f}"
        )
