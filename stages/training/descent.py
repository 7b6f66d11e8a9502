"""Gradient descent on one network: phases of an optimizer, best epoch, early stop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, LRScheduler, ReduceLROnPlateau

from stages.executors.reports import report_part
from stages.training.checkpoints import restore, trained_weights
from stages.training.loop import LoopSettings, batches, check_finite, trial_order

#: The schedule that leaves a learning rate as it is.
CONSTANT = partial(ConstantLR, factor=1.0)


class Losses(NamedTuple):
    """Of some trials: what is differentiated, and their summed Poisson loss for the curve."""

    objective: torch.Tensor
    poisson: torch.Tensor


class Network(ABC):
    """A module together with its data.

    Parameters
    ----------
    module : Module
        What is trained: its parameters with `requires_grad`, and its buffers.
    n_trials, n_neurons : int
        Training trials, and neurons.
    """

    module: nn.Module
    n_trials: int
    n_neurons: int

    @abstractmethod
    def losses(self, rows: NDArray[np.int64]) -> Iterator[Losses]:
        """Losses of one batch of training trials, in parts whose gradients add up.

        Sets training and evaluation modes itself, as `score` does.
        """

    @abstractmethod
    def score(self) -> float:
        """Mean validation score, higher is better; -inf where there is none."""

    @abstractmethod
    def project(self) -> None:
        """Bring parameters back to where they must be; called after each step."""

    @property
    def n_responses(self) -> int:
        """Responses to the training trials, of all neurons."""
        return self.n_trials * self.n_neurons

    def order(self, *, seed: int, epoch: int) -> NDArray[np.int64]:
        """The order of an epoch's trials."""
        return trial_order(self.n_trials, seed=seed, epoch=epoch)

    def total(self, losses: torch.Tensor) -> float:
        """The sum of the Poisson losses of an epoch's batches."""
        return losses.double().sum().item()


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Epochs under one optimizer, starting from the best weights so far.

    Parameters
    ----------
    epochs : int
        At most so many.
    optimizer : callable
        Makes the optimizer.
    schedule : callable
        Makes its learning-rate schedule, stepped after every epoch: by the epoch's score where it
        waits for a plateau. By default the rate stays as it is.
    final_rate : float, optional
        The phase ends after an epoch that leaves a learning rate no higher than this.
    """

    epochs: int
    optimizer: Callable[[], Optimizer]
    schedule: Callable[[Optimizer], LRScheduler] = CONSTANT
    final_rate: float | None = None


@dataclass
class Descent:
    """A network on its way through phases: a learner for the training loop.

    When the phases are over, the network holds the best epoch's weights.
    """

    network: Network
    phases: Sequence[Phase]
    loop: LoopSettings

    @property
    def finished(self) -> bool:
        """Whether the phases are over."""
        return self.phase == len(self.phases)

    def begin(self, state: dict[str, Any] | None) -> None:
        """Start the first phase, or go on within the one that was saved."""
        module = self.network.module
        if state is None:
            score = self.network.score() if self.loop.start_counts else -np.inf
            self.best_weights, self.best_score, self.stale = trained_weights(module), score, 0
            self._start_phase(0)
            return
        self.best_weights, self.best_score = state["best_weights"], state["best_score"]
        self.stale = state["stale"]
        self._start_phase(state["phase"])
        if state["epochs"]:
            self.epochs = state["epochs"]
            restore(module, state["weights"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.schedule.load_state_dict(state["schedule"])

    def state(self) -> dict[str, Any]:
        """Weights of the best and the last epoch, the optimizer's state, and where it stands."""
        module = self.network.module
        return {
            "best_weights": self.best_weights,
            "best_score": self.best_score,
            "stale": self.stale,
            "phase": self.phase,
            "epochs": self.epochs,
            "weights": trained_weights(module) if self.stale else self.best_weights,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
        }

    def epoch(self, number: int) -> tuple[float, float]:
        """Train for one epoch: mean Poisson loss per trial and neuron, and validation score."""
        losses = torch.stack(list(self._steps(number))).cpu()
        check_finite(losses, self.loop, number)
        loss = self.network.total(losses) / max(1, self.network.n_responses)
        score = self.network.score()
        if isinstance(self.schedule, ReduceLROnPlateau):
            self.schedule.step(score)
        else:
            self.schedule.step()
        self.epochs += 1
        self.stale += 1
        if score > self.best_score:
            self.best_weights = trained_weights(self.network.module)
            self.best_score, self.stale = score, 0
        phase, rate = self.phases[self.phase], self.optimizer.param_groups[0]["lr"]
        last = phase.final_rate is not None and rate <= phase.final_rate
        if self.epochs >= phase.epochs or self.stale >= self.loop.patience or last:
            self._start_phase(self.phase + 1)
        return loss, score

    def _steps(self, number: int) -> Iterator[torch.Tensor]:
        """One pass over the training trials; the Poisson loss of each batch."""
        network, optimizer, loop = self.network, self.optimizer, self.loop
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        order = network.order(seed=loop.seed, epoch=number)
        for done, rows in enumerate(batches(order, loop.batch_size)):
            report_part(done * loop.batch_size / len(order))
            optimizer.zero_grad(set_to_none=True)
            poisson: list[torch.Tensor] = []
            for part in network.losses(rows):
                part.objective.backward()
                poisson.append(part.poisson.detach())
            if loop.clip_norm is not None:
                nn.utils.clip_grad_norm_(parameters, loop.clip_norm)
            optimizer.step()
            network.project()
            yield torch.stack(poisson).sum()

    def _start_phase(self, number: int) -> None:
        """Start a phase, the next one that has epochs, from the best weights so far."""
        while number < len(self.phases) and not self.phases[number].epochs:
            number += 1
        self.phase, self.epochs = number, 0
        restore(self.network.module, self.best_weights)
        if not self.finished:
            phase = self.phases[number]
            self.optimizer = phase.optimizer()
            self.schedule = phase.schedule(self.optimizer)
