"""Tokens that each neuron of a group pools with its own space, summed over trials of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from stages.readouts.als.alternating import Factors, Normal, normal_equations
from stages.readouts.als.pca import ReducedTokens

#: Pooled numbers that are held at a time, about: the few trials that a processor's cache holds.
POOLED_AT_A_TIME = 2**20

#: From what `pooled_tokens` yields to responses (n_trials, n_neurons), NaN where a trial is not a
#: neuron's own.
PooledResponses = Callable[[slice, torch.Tensor], torch.Tensor]


def batches_of(n_neurons: int, batch: int) -> list[slice]:
    """The neurons of a group that pool, or project, at a time."""
    return [slice(first, min(first + batch, n_neurons)) for first in range(0, n_neurons, batch)]


def own_trials(responses: torch.Tensor, device: torch.device) -> torch.Tensor | None:
    """1 where there is a response and 0 elsewhere; None where none is missing.

    From responses of shape (n_trials, n_neurons), and like them.
    """
    missing = responses.isnan()
    return (~missing).to(device, torch.float32) if bool(missing.any()) else None


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
    n_neurons, n_trials, _ = features.shape
    count = features.new_full((n_neurons,), n_trials) if there is None else there.sum(dim=0)
    count = count.clamp(min=1)
    mean = features.sum(dim=1) / count[:, None]
    products = torch.bmm(features.mT, features) / count[:, None, None]
    return products - mean[:, :, None] * mean[:, None, :]


def pooled_tokens(
    tokens: ReducedTokens, space: torch.Tensor, n: int, there: torch.Tensor | None
) -> Iterator[tuple[slice, torch.Tensor]]:
    """The first n components, pooled with space (n_neurons, n_rows * n_columns), few trials each.

    Yields which trials, and a tensor of shape (n_neurons, n_trials, n), zero on trials that are not
    a neuron's own, in memory that the next takes too.
    """
    step = max(1, POOLED_AT_A_TIME // (len(space) * n))
    room = space.new_empty(len(space) * step * n)
    for first, last, z in tokens:
        for start in range(first, last, step):
            some = slice(start, min(start + step, last))
            part = z[some.start - first : some.stop - first, ..., :n].flatten(1, 2)
            by_place = part.transpose(0, 1).flatten(1)
            values = room[: len(space) * by_place.shape[1]].view(len(space), -1)
            torch.mm(space, by_place, out=values)
            values = values.view(len(space), -1, n)
            if there is not None:
                values *= there[some].T[:, :, None]
            yield some, values


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

    @classmethod
    def of(
        cls,
        tokens: ReducedTokens,
        space: torch.Tensor,
        n: int,
        there: torch.Tensor | None,
        responses: PooledResponses | None = None,
        *,
        products: torch.Tensor | None = None,
    ) -> PooledSums:
        """The sums, with the parameters of `pooled_tokens`.

        Parameters
        ----------
        responses : callable, optional
            None where absent.
        products : tensor, optional
            Those of the same tokens and the same space, where they are known.
        """
        sums = space.new_zeros(len(space), 2, n)
        total = space.new_zeros(len(space), dtype=torch.float64)
        known = products is not None
        products = space.new_zeros(len(space), n, n) if products is None else products
        for some, values in pooled_tokens(tokens, space, n, there):
            weights = values.new_ones(len(space), 2, values.shape[1])
            if responses is None:
                weights[:, 0] = 0
            else:
                own = responses(some, values).T
                weights[:, 0] = own if there is None else torch.where(there[some].T > 0, own, 0)
            sums.baddbmm_(weights, values)
            total += weights[:, 0].sum(dim=1)
            if not known:
                products.baddbmm_(values.mT, values)
        n_trials = space.new_full((len(space),), tokens.shape[0])
        return cls(
            count=n_trials if there is None else there.sum(dim=0),
            tokens=sums[:, 1],
            products=products,
            responses=total,
            cross=sums[:, 0],
        )

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

    @property
    def covariances(self) -> torch.Tensor:
        """Of pooled tokens, tensor of shape (n_neurons, n_components, n_components)."""
        mean = self.mean_tokens
        return self.products / self._count[:, None, None] - mean[:, :, None] * mean[:, None, :]

    def normal(self, factors: Factors) -> Normal:
        """The normal equations of the channels, given the rows and columns that pooled."""
        target = self.cross / self._count[:, None] - self.mean_responses[:, None] * self.mean_tokens
        return normal_equations(self.covariances, target, factors)

    @property
    def _count(self) -> torch.Tensor:
        return self.count.clamp(min=1)
