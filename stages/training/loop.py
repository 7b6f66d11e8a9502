"""The loop that trains networks end to end: phases, best epoch, early stop, exact resumption.

Whatever is random in an epoch follows from the seed and the epoch's number. A checkpoint therefore
needs no random states, and a run that goes on from one ends with the same weights as a run that was
never interrupted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from stages.readouts.readout import Epoch
from stages.training.checkpoints import Checkpoint, State, restore, trained_weights


class Losses(NamedTuple):
    """Of some trials: what is differentiated, and their summed Poisson loss for the curve."""

    objective: torch.Tensor
    poisson: torch.Tensor


class Learner(Protocol):
    """A model together with its data."""

    @property
    def module(self) -> nn.Module:
        """What is trained: its parameters with `requires_grad`, and its buffers."""

    @property
    def n_trials(self) -> int:
        """Training trials."""

    @property
    def n_neurons(self) -> int:
        """Neurons."""

    def losses(self, rows: NDArray[np.int64]) -> Iterator[Losses]:
        """Losses of one batch of training trials, in parts whose gradients add up.

        Sets training and evaluation modes itself, as `score` does.
        """

    def project(self) -> None:
        """Bring parameters back to where they must be; called after each step."""

    def score(self) -> float:
        """Mean validation score, higher is better; -inf where there is none."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Epochs under one optimizer, starting from the best weights so far.

    Parameters
    ----------
    epochs : int
        At most so many.
    optimizer : callable
        Makes the optimizer.
    schedule : callable, optional
        Makes its learning-rate schedule, stepped after every epoch.
    """

    epochs: int
    optimizer: Callable[[], Optimizer]
    schedule: Callable[[Optimizer], LRScheduler] | None = None


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
    """

    batch_size: int
    patience: int
    start_counts: bool
    clip_norm: float | None = None
    seed: int = 0
    what: str
    remedy: str


class Trained(NamedTuple):
    """Learning curve, and wall time in seconds (that of interrupted runs included)."""

    curve: list[Epoch]
    seconds: float


def train(
    learner: Learner,
    phases: Sequence[Phase],
    settings: LoopSettings,
    *,
    checkpoint: Checkpoint | None = None,
    progress: Callable[[Epoch], None] | None = None,
) -> Trained:
    """Train until the phases are over; the module then holds the best epoch's weights.

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
    with memory_errors(settings):
        state = None if checkpoint is None else checkpoint.load()
        if state is None:
            score = learner.score() if settings.start_counts else -np.inf
            state = State(best_weights=trained_weights(learner.module), best_score=score)
        elif progress is not None:
            for epoch in _curve(state):
                progress(epoch)
        while state.phase < len(phases):
            _train_phase(learner, phases[state.phase], settings, state, checkpoint, progress)
            state.phase, state.epoch, state.optimizer = state.phase + 1, 0, None
        restore(learner.module, state.best_weights)
    return Trained(_curve(state), state.seconds)


def _train_phase(
    learner: Learner,
    phase: Phase,
    settings: LoopSettings,
    state: State,
    checkpoint: Checkpoint | None,
    progress: Callable[[Epoch], None] | None,
) -> None:
    """Start a phase, or go on with it, until it has had its epochs or stops improving."""
    optimizer = phase.optimizer()
    schedule = None if phase.schedule is None else phase.schedule(optimizer)
    if state.optimizer is None:
        restore(learner.module, state.best_weights)
    else:
        assert state.weights is not None
        restore(learner.module, state.weights)
        optimizer.load_state_dict(state.optimizer)
        if schedule is not None and state.schedule is not None:
            schedule.load_state_dict(state.schedule)
    while state.epoch < phase.epochs and not (state.epoch and state.stale >= settings.patience):
        started = time.perf_counter()
        number = len(state.curve)
        loss = _train_epoch(learner, optimizer, settings, number)
        score = learner.score()
        if schedule is not None:
            schedule.step()
        state.epoch += 1
        state.stale += 1
        state.curve.append((loss, score))
        state.weights, state.optimizer = trained_weights(learner.module), optimizer.state_dict()
        state.schedule = None if schedule is None else schedule.state_dict()
        if score > state.best_score:
            state.best_score, state.best_weights, state.stale = score, state.weights, 0
        state.seconds += time.perf_counter() - started
        if checkpoint is not None:
            checkpoint.save(state)
        if progress is not None:
            progress(Epoch(number, loss, score))


def _train_epoch(
    learner: Learner, optimizer: Optimizer, settings: LoopSettings, number: int
) -> float:
    """One pass over the training trials; the mean Poisson loss per trial and neuron."""
    order = np.random.default_rng([settings.seed, number]).permutation(learner.n_trials)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    sums: list[torch.Tensor] = []
    with _seeded(settings.seed, number):
        for first in range(0, len(order), settings.batch_size):
            optimizer.zero_grad(set_to_none=True)
            total: list[torch.Tensor] = []
            for part in learner.losses(order[first : first + settings.batch_size]):
                part.objective.backward()
                total.append(part.poisson.detach())
            if settings.clip_norm is not None:
                nn.utils.clip_grad_norm_(parameters, settings.clip_norm)
            optimizer.step()
            learner.project()
            sums.append(torch.stack(total).sum())
    # Looked at once per epoch: on an accelerator every look waits for the work at hand.
    losses = torch.stack(sums).cpu()
    if not bool(losses.isfinite().all()):
        batch = int((~losses.isfinite()).nonzero()[0].item())
        raise FloatingPointError(
            f"{settings.what}: the training loss is {losses[batch].item()} in epoch {number}, "
            f"batch {batch}: lower the learning rate, or use precision float32"
        )
    return losses.double().sum().item() / (learner.n_trials * learner.n_neurons)


def _curve(state: State) -> list[Epoch]:
    return [Epoch(number, loss, score) for number, (loss, score) in enumerate(state.curve)]


@contextmanager
def _seeded(seed: int, epoch: int) -> Iterator[None]:
    """Torch's generators in a state that follows from seed and epoch; put back afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0]))
        yield


@contextmanager
def memory_errors(settings: LoopSettings) -> Iterator[None]:
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
