"""The training loop: epochs, learning curve, checkpoints, exact resumption.

Whatever is random in an epoch follows from the seed and the epoch's number. A checkpoint therefore
needs no random states, and a run that goes on from one ends with the same weights as a run that was
never interrupted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from stages.training.checkpoints import Checkpoint
from stages.training.epoch import Epoch


class Learner(Protocol):
    """What the loop trains."""

    #: How the loop runs.
    loop: LoopSettings

    @property
    def finished(self) -> bool:
        """Whether no epoch is left to do."""

    def begin(self, state: dict[str, Any] | None) -> None:
        """Get ready for the first epoch, or for the one after a state that was saved."""

    def epoch(self, number: int) -> tuple[float, float]:
        """Train for one epoch; its training loss and validation score."""

    def state(self) -> dict[str, Any]:
        """Everything that later epochs depend on: tensors, numbers, and containers of them."""


@dataclass(frozen=True, kw_only=True)
class LoopSettings:
    """How the loop runs.

    Parameters
    ----------
    batch_size : int
        Trials per step.
    patience : int
        A phase ends after so many epochs without a better score; the count goes on across phases.
    start_counts : bool
        Whether the weights before the first epoch may be the best: fitted ones may, random not.
    clip_norm : float, optional
        Bound of the norm of all gradients together; none where absent.
    seed : int
        Decides the order of the trials and all other randomness.
    what : str
        What messages call the run, such as "finetune last2 at block 4".
    remedy : str
        What to lower where memory runs out, such as "lower finetune.micro_batch".
    slower : str
        What to do where a loss is not finite.
    """

    batch_size: int
    patience: int
    start_counts: bool
    clip_norm: float | None = None
    seed: int = 0
    what: str
    remedy: str
    slower: str = "lower the learning rate, or use precision float32"


class Trained(NamedTuple):
    """Learning curve, and wall time in seconds (that of interrupted runs included)."""

    curve: list[Epoch]
    seconds: float


def train(
    learner: Learner,
    *,
    checkpoint: Checkpoint | None = None,
    progress: Callable[[Epoch], None] | None = None,
) -> Trained:
    """Train until the learner has finished.

    Parameters
    ----------
    checkpoint : Checkpoint, optional
        Where the state is kept after every epoch, and taken up from if there is one.
    progress : callable, optional
        Called with every epoch, those of an interrupted run included.

    Raises
    ------
    FloatingPointError
        A loss that is not finite; the message names epoch and batch.
    MemoryError
        Memory ran out; the message names the batch size and what to lower.
    UserError
        A checkpoint of other settings, or one that cannot be read.
    """
    with _memory_errors(learner.loop):
        saved = None if checkpoint is None else checkpoint.load()
        learner.begin(None if saved is None else saved["learner"])
        curve = [] if saved is None else [Epoch(*point) for point in saved["curve"]]
        seconds = 0.0 if saved is None else float(saved["seconds"])
        if progress is not None:
            for epoch in curve:
                progress(epoch)
        while not learner.finished:
            started, number = time.perf_counter(), len(curve)
            with _seeded(learner.loop.seed, number):
                epoch = Epoch(number, *learner.epoch(number))
            curve.append(epoch)
            seconds += time.perf_counter() - started
            if checkpoint is not None:
                points = [tuple(point) for point in curve]
                checkpoint.save({"learner": learner.state(), "curve": points, "seconds": seconds})
            if progress is not None:
                progress(epoch)
    return Trained(curve, seconds)


def trial_order(n_trials: int, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order of the trials in an epoch: a permutation that seed and epoch decide."""
    return np.random.default_rng([seed, epoch]).permutation(n_trials)


def batches(order: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    """Parts of at most `size` trials."""
    return (order[first : first + size] for first in range(0, len(order), size))


def check_finite(
    losses: torch.Tensor,
    settings: LoopSettings,
    epoch: int,
    *,
    neurons: NDArray[np.int64] | None = None,
) -> None:
    """Raise FloatingPointError where losses of an epoch are not finite.

    Called once per epoch: on an accelerator every look at a number waits for the work at hand.

    Parameters
    ----------
    losses : tensor of shape (n_batches,), or (n_batches, n_neurons) of the given neurons
    """
    broken = (~losses.isfinite()).nonzero()
    if not len(broken):
        return
    batch, *column = broken[0].tolist()
    whose = "" if neurons is None else f" of neuron {neurons[column[0]]}"
    raise FloatingPointError(
        f"{settings.what}: the training loss{whose} is {losses[batch, *column].item()} in epoch "
        f"{epoch}, batch {batch}: {settings.slower}"
    )


@contextmanager
def _seeded(seed: int, epoch: int) -> Iterator[None]:
    """Torch's generators in a state that follows from seed and epoch; put back afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0]))
        yield


@contextmanager
def _memory_errors(settings: LoopSettings) -> Iterator[None]:
    """Say what to lower where memory runs out."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # The CPU's allocator raises a plain RuntimeError.
        known = isinstance(error, (MemoryError, torch.OutOfMemoryError))
        if not known and "can't allocate memory" not in str(error):
            raise
        raise MemoryError(
            f"{settings.what}: out of memory at a batch size of {settings.batch_size}: "
            f"{settings.remedy}"
        ) from error
