"""Progress of one condition, epoch by epoch."""

from __future__ import annotations

from stages.stage import Progress
from stages.training.epoch import Epoch


class EpochProgress:
    """Tells a stage's progress of every epoch, and of those that an early stop leaves out.

    Parameters
    ----------
    progress : callable
        The stage's.
    label : str
        What is trained.
    epochs : int
        At most so many.
    """

    def __init__(self, progress: Progress, label: str, epochs: int) -> None:
        self._progress = progress
        self._label = label
        self._left = epochs

    def __call__(self, epoch: Epoch) -> None:
        """One more epoch is done."""
        self._left -= 1
        self._progress(1, f"{self._label}, validation {epoch.validation_score:.4f}")

    def finish(self) -> None:
        """No more epochs will come."""
        self._progress(self._left)
