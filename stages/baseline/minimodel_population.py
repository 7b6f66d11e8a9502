"""The population of minimodels in training: who still is, and everyone's best epoch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from stages.baseline.minimodel import Tensors
from stages.baseline.per_neuron_adamw import AdamWMoments


@dataclass(kw_only=True)
class Active:
    """Neurons in training; every tensor has one row per neuron.

    Parameters
    ----------
    who : tensor
        Their positions in the whole population.
    weights, running, moments
        As the last step left them.
    phase, epoch, stale : tensor
        A neuron's phase, its epochs in it, and its epochs since its best one.
    """

    who: torch.Tensor
    weights: torch.Tensor
    running: Tensors
    moments: AdamWMoments
    phase: torch.Tensor
    epoch: torch.Tensor
    stale: torch.Tensor

    def __len__(self) -> int:
        return len(self.who)

    def take(self, rows: torch.Tensor | slice) -> Active:
        """Some of the neurons: copies for a tensor of rows, views for a slice."""
        return Active.of(changed(vars(self), lambda tensor: tensor[rows]))

    @classmethod
    def of(cls, content: dict[str, Any]) -> Active:
        """The same from plain containers."""
        return cls(**content | {"moments": AdamWMoments(*content["moments"])})


@dataclass(kw_only=True)
class Population:
    """All neurons, in training or done.

    Parameters
    ----------
    weights, running, score
        Of each neuron's best epoch so far; one row per neuron.
    last_loss, last_score : tensor of shape (n_neurons,)
        Of the last epoch; the score is the best one where a neuron is done.
    active : Active
        Those still in training.
    """

    weights: torch.Tensor
    running: Tensors
    score: torch.Tensor
    last_loss: torch.Tensor
    last_score: torch.Tensor
    active: Active

    @classmethod
    def start(cls, weights: torch.Tensor, running: Tensors) -> Population:
        """Before the first epoch, everyone in training."""
        device, n_neurons = weights.device, len(weights)
        unknown = torch.full((n_neurons,), torch.nan, device=device)
        zeros = torch.zeros(n_neurons, dtype=torch.int64, device=device)
        return cls(
            weights=weights,
            running=running,
            score=torch.full((n_neurons,), -torch.inf, device=device),
            last_loss=unknown,
            last_score=unknown.clone(),
            active=Active(
                who=torch.arange(n_neurons, device=device),
                weights=weights.clone(),
                running={name: tensor.clone() for name, tensor in running.items()},
                moments=AdamWMoments.fresh(weights),
                phase=zeros,
                epoch=zeros.clone(),
                stale=zeros.clone(),
            ),
        )

    def record(self, losses: torch.Tensor, scores: torch.Tensor) -> None:
        """One epoch of the active neurons: keep who got better, and count for who did not."""
        active = self.active
        better = scores > self.score[active.who]
        who = active.who[better]
        self.score[who] = scores[better]
        self.weights[who] = active.weights[better]
        for name, tensor in self.running.items():
            tensor[who] = active.running[name][better]
        self.last_loss[active.who] = losses
        self.last_score[active.who] = scores
        active.epoch += 1
        active.stale = torch.where(better, 0, active.stale + 1)

    def next_phases(self, epochs: torch.Tensor, patience: int) -> None:
        """Start the next phase, from the best so far, of everyone whose phase is over; let go of
        those who have no further one.

        Parameters
        ----------
        epochs : tensor of shape (n_phases,)
            Most epochs of each phase.
        patience : int
            Epochs without a better score after which a phase is over, at its first epoch's end at
            the earliest.
        """
        active = self.active
        limits = torch.cat([epochs, epochs.new_ones(1)])  # the last entry is never reached
        while True:
            over = active.epoch >= limits[active.phase]
            over |= (active.epoch > 0) & (active.stale >= patience)
            over &= active.phase < len(epochs)
            if not bool(over.any()):
                break
            active.phase += over
            active.epoch[over] = 0
            who = active.who[over]
            active.weights[over] = self.weights[who]
            for name, tensor in active.running.items():
                tensor[over] = self.running[name][who]
            for tensor in active.moments:
                tensor[over] = 0
        going = active.phase < len(epochs)
        done = active.who[~going]
        best = self.score[done]
        self.last_score[done] = torch.where(best.isfinite(), best, torch.nan)
        if len(done):
            self.active = active.take(going.nonzero()[:, 0])

    def means(self) -> tuple[float, float]:
        """Loss and score of the last epoch, for the learning curve; NaN scores stay out."""
        loss, score = self.last_loss.double().nanmean(), self.last_score.double().nanmean()
        return float(loss), float(score)

    def plain(self) -> dict[str, Any]:
        """As tensors, numbers, and dicts and lists of them."""
        active = vars(self.active) | {"moments": list(self.active.moments)}
        return vars(self) | {"active": active}

    @classmethod
    def from_plain(cls, content: dict[str, Any], device: str) -> Population:
        """What `plain` gave, on a device."""
        content = changed(content, lambda tensor: tensor.to(device))
        return cls(**content | {"active": Active.of(content["active"])})


def changed(content: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Tensors changed, and those in dicts, and in sequences, which become lists."""
    if isinstance(content, torch.Tensor):
        return change(content)
    if isinstance(content, dict):
        return {name: changed(value, change) for name, value in content.items()}
    return [changed(value, change) for value in content]
