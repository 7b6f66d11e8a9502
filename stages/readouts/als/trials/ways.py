"""Both ways to take the steps of a fit: from sufficient statistics, and on the trials."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch

from stages.readouts.als.memory import MemoryPlan
from stages.readouts.als.partition import shards, tree_sum
from stages.readouts.als.pca import ReducedTokens
from stages.readouts.als.sufficient_statistics import shard_products, sum_trials
from stages.readouts.als.trials.space import TrialEquations, position_products, trial_equations
from stages.readouts.als.trials.statistics import (
    StatisticEquations,
    StatisticSteps,
    statistic_equations,
)
from stages.readouts.als.trials.steps import TrialSteps
from stages.readouts.data import FitData
from stages.readouts.solver_settings import ALSSettings


@dataclass(frozen=True, kw_only=True)
class ReducedTrials:
    """The reduced tokens of a fit, and how much of it is held at once."""

    training: ReducedTokens
    validation: ReducedTokens
    plan: MemoryPlan


class FitProducts(NamedTuple):
    """Products of tokens over the training trials, and over these and the validation trials.

    `both` is None where nothing asks for them.
    """

    training: torch.Tensor
    both: torch.Tensor | None


#: The least squares of some neurons: as far as rows and columns need them, then the channels.
Equations = StatisticEquations | TrialEquations

#: Steps of Fisher scoring of a group, which move channels and leave rows and columns.
Steps = StatisticSteps | TrialSteps


def products_of(reduced: ReducedTokens, plan: MemoryPlan) -> torch.Tensor:
    """Products of the tokens that depend on no response, summed over trials."""
    products = partial(shard_products_of, reduced, plan)
    return tree_sum(products, shards(reduced.tokens.shape))


def shard_products_of(
    reduced: ReducedTokens, plan: MemoryPlan, shard: tuple[int, int]
) -> torch.Tensor:
    """The same over the trials from first to last."""
    if plan.batch is not None:
        return position_products(reduced, shard)
    return shard_products(reduced, shard, rows_at_once=plan.rows_at_once)


def equations_of(
    data: FitData, tokens: ReducedTrials, products: torch.Tensor, settings: ALSSettings
) -> Iterable[Equations]:
    """The equations of a group, batch by batch, with `products_of` the training trials."""
    if tokens.plan.batch is not None:
        return trial_equations(
            tokens.training, data.r_train, products, settings, batch=tokens.plan.batch
        )
    statistics = sum_trials(tokens.training, data.r_train).statistics(products)
    return statistic_equations(statistics, settings)


def steps_of(
    data: FitData,
    tokens: ReducedTrials,
    products: FitProducts,
    settings: ALSSettings,
) -> Steps:
    """The steps of a group."""
    trials = (tokens.training, data.r_train), (tokens.validation, data.r_validation)
    if tokens.plan.batch is not None:
        return TrialSteps(*trials, tokens.plan.batch)
    return StatisticSteps(*trials, products, settings)
