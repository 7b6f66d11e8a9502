"""Tokens that each neuron of a group pools with its own space, on trials of its own."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from stages.readouts.als.alternating import Factors, Normal, normal_equations
from stages.readouts.als.pca import ReducedTokens


def batches_of(n_neurons: int, batch: int) -> list[slice]:
    """The neurons of a group that pool, or project, at a time."""
    return [slice(first, min(first + batch, n_neurons)) for first in range(0, n_neurons, batch)]


def own_trials(responses: torch.Tensor, device: torch.device) -> torch.Tensor | None:
    """1 where there is a response and 0 elsewhere; None where none is missing.

    From responses of shape (n_trials, n_neurons), and like them.
    """
    missing = responses.isnan()
    return (~missing).to(device, torch.float32) if bool(missing.any()) else None


def count_of(features: torch.Tensor, there: torch.Tensor | None) -> torch.Tensor:
    """How many trials are each neuron's own, of `features` (n_neurons, n_trials, n)."""
    n_neurons, n_trials, _ = features.shape
    return features.new_full((n_neurons,), n_trials) if there is None else there.sum(dim=0)


def covariances(features: torch.Tensor, there: torch.Tensor | None) -> torch.Tensor:
    """Of each neuron's features over its own trials, tensor of shape (n_neurons, n, n).

    Parameters
    ----------
    features : tensor of shape (n_neurons, n_trials, n)
        Zero on trials that are not the neuron's own, and of means that are small beside their
        deviations.
    there : tensor of shape (n_trials, n_neurons), optional
        From `own_trials`.
    """
    count = count_of(features, there).clamp(min=1)
    mean = features.sum(dim=1) / count[:, None]
    products = torch.bmm(features.mT, features) / count[:, None, None]
    return products - mean[:, :, None] * mean[:, None, :]


class PooledTokens:
    """Tokens pooled with each neuron's space, zero on trials that are not its own.

    Parameters
    ----------
    values : tensor of shape (n_trials, n_neurons, n_components)
    there : tensor of shape (n_trials, n_neurons), optional
        From `own_trials`.
    """

    def __init__(self, values: torch.Tensor, there: torch.Tensor | None) -> None:
        if there is not None:
            values *= there[:, :, None]
        self.values, self.there = values, there

    @classmethod
    def of(
        cls, tokens: ReducedTokens, space: torch.Tensor, n: int, there: torch.Tensor | None
    ) -> PooledTokens:
        """The first n components, pooled with space (n_neurons, n_rows * n_columns)."""
        values = space.new_empty(tokens.shape[0], len(space), n)
        for first, last, z in tokens:
            values[first:last] = torch.matmul(space, z.flatten(1, 2)[..., :n])
        return cls(values, there)

    def predicted(self, channel: torch.Tensor) -> torch.Tensor:
        """Weighted with each neuron's channels, tensor of shape (n_trials, n_neurons)."""
        return torch.bmm(self.values.transpose(0, 1), channel[:, :, None])[:, :, 0].T

    def sums(self, responses: torch.Tensor) -> PooledSums:
        """Sums over each neuron's own trials, with responses (n_trials, n_neurons)."""
        if self.there is not None:
            responses = torch.where(self.there > 0, responses, 0)
        own, features = responses.T.contiguous(), self.values.transpose(0, 1)
        return PooledSums(
            count=count_of(features, self.there),
            tokens=features.sum(dim=1),
            products=torch.bmm(features.mT, features),
            responses=own.double().sum(dim=1),
            cross=torch.bmm(own[:, None], features)[:, 0],
        )


@dataclass(frozen=True, kw_only=True)
class PooledSums:
    """Sums over each neuron's own trials, of what it pools and of its responses.

    Parameters
    ----------
    count, responses : tensor of shape (n_neurons,)
        Trials, and their responses.
    tokens, cross : tensor of shape (n_neurons, n_components)
        Of pooled tokens, and of these times responses.
    products : tensor of shape (n_neurons, n_components, n_components)
        Of pooled tokens with each other.
    """

    count: torch.Tensor
    tokens: torch.Tensor
    products: torch.Tensor
    responses: torch.Tensor
    cross: torch.Tensor

    def __add__(self, other: PooledSums) -> PooledSums:
        """The sums over both."""
        return PooledSums(**{name: own + getattr(other, name) for name, own in vars(self).items()})

    @property
    def mean_tokens(self) -> torch.Tensor:
        """Tensor of shape (n_neurons, n_components)."""
        return self.tokens / self._count[:, None]

    @property
    def mean_responses(self) -> torch.Tensor:
        """Tensor of shape (n_neurons,)."""
        return (self.responses / self._count).float()

    def normal(self, factors: Factors) -> Normal:
        """The normal equations of the channels, given the rows and columns that pooled."""
        mean, count = self.mean_tokens, self._count
        target = self.cross / count[:, None] - self.mean_responses[:, None] * mean
        matrix = self.products / count[:, None, None] - mean[:, :, None] * mean[:, None, :]
        return normal_equations(matrix, target, factors)

    @property
    def _count(self) -> torch.Tensor:
        return self.count.clamp(min=1)
