"""Rows and columns of a group of neurons, found on the trials that are each neuron's own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch

from stages.readouts.als.alternating import AlternatingLeastSquares, Factors, Normal
from stages.readouts.als.partition import SPACE_COMPONENTS
from stages.readouts.als.pca import ReducedTokens
from stages.readouts.als.trials.pooled import (
    PooledSums,
    batches_of,
    covariances,
    own_trials,
)
from stages.readouts.solver_settings import ALSSettings


class SpaceOnTrials(AlternatingLeastSquares):
    """The alternation on the leading components of the trials themselves.

    Parameters
    ----------
    tokens : ReducedTokens
    there : tensor of shape (n_trials, n_neurons), optional
        From `own_trials`.
    settings : ALSSettings
        Of which `tolerance` and `max_rounds` are heeded.
    """

    def __init__(
        self, tokens: ReducedTokens, there: torch.Tensor | None, settings: ALSSettings
    ) -> None:
        self.tokens, self.there, self.settings = tokens, there, settings
        _, self.h, self.w, n_components = tokens.shape
        self.k = min(SPACE_COMPONENTS, n_components)

    def of(self, neurons: torch.Tensor) -> SpaceOnTrials:
        """The alternation of some neurons."""
        there = None if self.there is None else self.there[:, neurons]
        return SpaceOnTrials(self.tokens, there, self.settings)

    def pooled_gram(self, factors: Factors) -> torch.Tensor:
        """Covariance of the tokens that each neuron pools, over its own trials."""
        return PooledSums.of(self.tokens, factors.space(), self.k, self.there).covariances

    def space_grams(self, channel: torch.Tensor) -> ProjectedTokens:
        """The tokens projected on each neuron's channels."""
        n_components = self.tokens.shape[3]
        parts = []
        for first, last, z in self.tokens:
            flat = z.view(-1, n_components)[:, : self.k]
            parts.append((channel @ flat.T).view(-1, last - first, self.h, self.w))
        return ProjectedTokens(parts, self.there)


class ProjectedTokens(NamedTuple):
    """Tokens projected on each neuron's channels: `stages.readouts.als.alternating.SpaceGrams`.

    Parameters
    ----------
    parts : list of tensor of shape (n_neurons, n_trials, n_rows, n_columns)
    there : tensor of shape (n_trials, n_neurons), optional
    """

    parts: list[torch.Tensor]
    there: torch.Tensor | None

    def of_rows(self, column: torch.Tensor) -> torch.Tensor:
        """Covariance of what each row has, given the columns."""
        weights = column.float()[:, :, None]
        rows = [torch.bmm(z.flatten(1, 2), weights).view(z.shape[:3]) for z in self.parts]
        return self._covariances(rows)

    def of_columns(self, row: torch.Tensor) -> torch.Tensor:
        """Covariance of what each column has, given the rows."""
        weights = row.float()[:, None, None]
        return self._covariances([torch.matmul(weights, z)[:, :, 0] for z in self.parts])

    def _covariances(self, parts: list[torch.Tensor]) -> torch.Tensor:
        features = torch.cat(parts, dim=1)
        if self.there is not None:
            features *= self.there.T[:, :, None]
        return covariances(features, self.there).double()


@dataclass(frozen=True)
class TrialEquations:
    """What the steps to a group's path ask of its trials, as `StatisticEquations`.

    Parameters
    ----------
    alternation : SpaceOnTrials
    responses : tensor of shape (n_trials, n_neurons)
        NaN where missing.
    mean_responses : tensor of shape (n_neurons,)
    cross : tensor of shape (n_neurons, n_rows, n_columns, n)
        Covariance of responses and the leading components.
    grams : tensor of shape (n_rows, n_columns, n, n)
        Covariance of these within each position.
    """

    alternation: SpaceOnTrials
    responses: torch.Tensor
    mean_responses: torch.Tensor
    cross: torch.Tensor
    grams: torch.Tensor

    def channels(self, space: Factors) -> tuple[Normal, torch.Tensor]:
        """Normal equations of the channels, and the mean of what each neuron pools."""
        tokens, there = self.alternation.tokens, self.alternation.there
        sums = PooledSums.of(
            tokens, space.space(), tokens.shape[3], there, lambda some, _: self.responses[some]
        )
        return sums.normal(space), sums.mean_tokens


def trial_equations(
    tokens: ReducedTokens,
    responses: torch.Tensor,
    products: torch.Tensor,
    settings: ALSSettings,
    *,
    batch: int,
) -> Iterator[TrialEquations]:
    """The equations of a group, batch by batch.

    Parameters
    ----------
    responses : tensor of shape (n_trials, n_neurons)
        NaN where missing.
    products : tensor
        `position_products` summed over the training trials.
    batch : int
        Neurons that pool, or project, at a time.
    """
    for part in batches_of(responses.shape[1], batch):
        own = responses[:, part].to(products.device)
        alternation = SpaceOnTrials(tokens, own_trials(own, own.device), settings)
        h, w, k = alternation.h, alternation.w, alternation.k
        mean = own.double().nanmean(dim=0).float()
        around = (own - mean).nan_to_num()
        cross = around.new_zeros(own.shape[1], h * w * k)
        total = cross.new_zeros(h, w, k)
        for first, last, z in tokens:
            some = z[..., :k]
            total += some.sum(dim=0)
            cross.addmm_(around[first:last].T, some.flatten(1))
        count = (~own.isnan()).sum(dim=0)
        position = total / len(own)
        yield TrialEquations(
            alternation=alternation,
            responses=own,
            mean_responses=mean,
            cross=(cross / count[:, None]).view(-1, h, w, k),
            grams=products / len(own) - position[..., :, None] * position[..., None, :],
        )


def position_products(reduced: ReducedTokens, shard: tuple[int, int]) -> torch.Tensor:
    """Products of the leading components within each position, over trials from first to last.

    Tensor of shape (n_rows, n_columns, n, n).
    """
    _, h, w, n_components = reduced.shape
    k = min(SPACE_COMPONENTS, n_components)
    products = reduced.components.basis.new_zeros(h * w, k, k)
    for _, _, z in reduced.parts(*shard):
        by_position = z[..., :k].flatten(1, 2).transpose(0, 1)
        products.baddbmm_(by_position.mT, by_position)
    return products.view(h, w, k, k)
