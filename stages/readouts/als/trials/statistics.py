"""Sufficient statistics of all trials, in the form in which the steps of a fit ask for them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from stages.readouts.als.alternating import (
    AlternatingLeastSquares,
    Factors,
    Normal,
    position_grams,
)
from stages.readouts.als.partition import SPACE_COMPONENTS, neuron_batches
from stages.readouts.als.pca import ReducedTokens
from stages.readouts.als.predictor import Predictor, centred, join
from stages.readouts.als.sufficient_statistics import Statistics, TrialSums, sum_trials
from stages.readouts.als.trials.steps import parabola_targets
from stages.readouts.solver_settings import ALSSettings


@dataclass(frozen=True)
class StatisticEquations:
    """What the steps to a batch's path ask of the statistics.

    Parameters
    ----------
    alternation, every : AlternatingLeastSquares
        On the leading components, and on all.
    own : Statistics
        Of the batch.
    cross, grams : tensor
        Of the leading components.
    """

    alternation: AlternatingLeastSquares
    every: AlternatingLeastSquares
    own: Statistics
    cross: torch.Tensor
    grams: torch.Tensor

    @property
    def mean_responses(self) -> torch.Tensor:
        """Tensor of shape (n_neurons,)."""
        return self.own.mean_responses

    def channels(self, space: Factors) -> tuple[Normal, torch.Tensor]:
        """Normal equations of the channels, and the mean of what each neuron pools."""
        mean = self.own.mean_tokens.flatten(0, 1).expand(len(space.row), -1, -1)
        pooled = torch.bmm(space.space()[:, None], mean)[:, 0]
        return self.every.normal(self.own.cross, space), pooled


def statistic_equations(
    statistics: Statistics, settings: ALSSettings
) -> Iterator[StatisticEquations]:
    """The equations of a group, batch by batch."""
    every = AlternatingLeastSquares(statistics.gram, statistics.mean_tokens.shape, settings)
    leading = every.leading(SPACE_COMPONENTS)
    grams = position_grams(leading.gram, (leading.h, leading.w, leading.k))
    for part in neuron_batches(len(statistics.cross)):
        own = statistics.of(part)
        cross = own.cross[..., : leading.k].contiguous()
        yield StatisticEquations(leading, every, own, cross, grams)


class StatisticSteps:
    """What the end of a fit asks of all trials.

    Parameters
    ----------
    training, validation : pair of ReducedTokens and tensor
        Tokens, and responses of shape (n_trials, n_neurons).
    products : pair of tensor
        `sum_products` over the training trials, and over all; none of these without a refit.
    """

    there = None

    def __init__(
        self,
        training: tuple[ReducedTokens, torch.Tensor],
        validation: tuple[ReducedTokens, torch.Tensor],
        products: tuple[torch.Tensor, torch.Tensor | None],
        settings: ALSSettings,
    ) -> None:
        self.products, self.settings = products, settings
        self.trials = training, validation

    def sums(
        self, predictor: Predictor, curvature: torch.Tensor, *, held_out: bool = False
    ) -> TrialSums:
        """Sums over trials, with the targets of a parabola for responses."""
        return sum_targets(predictor, curvature, *self.trials[held_out])

    def sums_of_responses(self, predictor: Predictor, *, held_out: bool = False) -> TrialSums:
        """Sums over trials, with the responses themselves."""
        return sum_trials(*self.trials[held_out])

    def step(
        self, predictor: Predictor, sums: Any, penalty: torch.Tensor, *, refit: bool = False
    ) -> Predictor:
        """The predictor with other channels: the least-squares fit to what was summed."""
        products = self.products[refit]
        assert products is not None
        return step(predictor, sums.statistics(products), penalty, self.settings)


def sum_targets(
    predictor: Predictor, curvature: torch.Tensor, tokens: ReducedTokens, responses: torch.Tensor
) -> TrialSums:
    """Sums over trials, with the least-squares targets for responses.

    Parameters
    ----------
    curvature : tensor of shape (n_neurons,)
        Mean second derivative of the loss.
    responses : tensor of shape (n_trials, n_neurons)
    """
    grid = tokens.shape[1:]
    device = predictor.bias.device
    weights = predictor.factors.weights()
    total = torch.zeros(len(weights), dtype=torch.float64, device=device)
    cross = torch.zeros_like(weights)
    every = torch.zeros(math.prod(grid), device=device)
    for first, last, reduced in tokens:
        flat = reduced.flatten(1)
        every += tokens.sum_of(first, flat)
        for part in neuron_batches(len(weights)):
            z = torch.addmm(predictor.bias[part], flat, weights[part].T)
            r = responses[first:last, part].to(device)
            target = parabola_targets(z, r, curvature[part])
            total[part] += target.double().sum(dim=0)
            cross[part].addmm_(target.T, flat)
    return TrialSums(len(responses), every.view(grid), total, cross.view(-1, *grid))


def step(
    predictor: Predictor, statistics: Statistics, penalty: torch.Tensor, settings: ALSSettings
) -> Predictor:
    """The predictor with other channels: the least-squares fit to what was summed.

    Rows and columns stay: moving them gains on one set of held-out images and loses on another.

    Parameters
    ----------
    penalty : tensor of shape (n_neurons,)
    """
    als = AlternatingLeastSquares(statistics.gram, statistics.mean_tokens.shape, settings)
    moved = []
    for part in neuron_batches(len(penalty)):
        own, factors = statistics.of(part), predictor.factors.of(part)
        channel, _ = als.channels(own.cross, factors, penalty[part])
        after = factors._replace(channel=channel)
        moved.append(centred(after, own.mean_tokens, own.mean_responses))
    return join(moved)
