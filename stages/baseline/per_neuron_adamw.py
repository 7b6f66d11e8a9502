"""AdamW with a learning rate and a step count per neuron."""

from __future__ import annotations

from typing import NamedTuple

import torch

BETA1, BETA2 = 0.9, 0.999
EPSILON = 1e-8


class AdamWMoments(NamedTuple):
    """Running moments of gradients, of shape (n_neurons, n_weights), and steps, (n_neurons,)."""

    first: torch.Tensor
    second: torch.Tensor
    steps: torch.Tensor

    @classmethod
    def fresh(cls, weights: torch.Tensor) -> AdamWMoments:
        """Before the first step."""
        steps = torch.zeros(len(weights), device=weights.device)
        return cls(torch.zeros_like(weights), torch.zeros_like(weights), steps)


@torch.no_grad()
def adamw_step(
    weights: torch.Tensor,
    gradients: torch.Tensor,
    moments: AdamWMoments,
    *,
    learning_rates: torch.Tensor,
    decays: torch.Tensor,
) -> None:
    """One step, in place; row by row what `torch.optim.AdamW` does.

    Parameters
    ----------
    weights, gradients : tensor of shape (n_neurons, n_weights)
    learning_rates : tensor of shape (n_neurons,)
    decays : tensor of shape (n_weights,)
        Weight decay.
    """
    rates = learning_rates[:, None]
    moments.steps.add_(1)
    moments.first.lerp_(gradients, 1 - BETA1)
    moments.second.mul_(BETA2).addcmul_(gradients, gradients, value=1 - BETA2)
    correction1 = 1 - BETA1 ** moments.steps[:, None]
    correction2 = 1 - BETA2 ** moments.steps[:, None]
    weights.mul_(1 - rates * decays)
    scale = (moments.second / correction2).sqrt_().add_(EPSILON)
    weights.sub_(moments.first / scale * (rates / correction1))
