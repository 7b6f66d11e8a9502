"""One group of neurons: its least squares, then its polishing once all neurons have chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from stages.readouts.als.alternating import (
    AlternatingLeastSquares,
    initial_factors,
    position_grams,
)
from stages.readouts.als.memory import MemoryPlan
from stages.readouts.als.partition import neuron_batches
from stages.readouts.als.pca import Components, ReducedTokens
from stages.readouts.als.penalties import HeldOutErrors
from stages.readouts.als.polish import GroupTrials, polish, start
from stages.readouts.als.predictor import Predictor, centred, join, pick
from stages.readouts.als.sufficient_statistics import Statistics, sum_statistics, token_covariance
from stages.readouts.data import FitData
from stages.readouts.readout import rate
from stages.readouts.solver_settings import ALSSettings
from stages.spread import varies


@dataclass(frozen=True, kw_only=True)
class ReducedTrials:
    """The reduced tokens of a fit, and how much of it is held at once."""

    training: ReducedTokens
    validation: ReducedTokens
    plan: MemoryPlan


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """One group's least-squares fits, one per penalty.

    Parameters
    ----------
    path : sequence of Predictor
    mean_tokens : tensor of shape (n_rows, n_columns, n_components)
        Over the training trials.
    """

    path: Sequence[Predictor]
    mean_tokens: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class Polished:
    """One group's end.

    Parameters
    ----------
    predictor : Predictor
    penalty : tensor of shape (n_neurons,)
        Of the summed squared weights, in the Poisson loss.
    losses : tensor of shape (n_neurons, n_steps)
        Training loss before every step.
    errors : HeldOutErrors
        Validation errors after every step.
    """

    predictor: Predictor
    penalty: torch.Tensor
    losses: torch.Tensor
    errors: HeldOutErrors


def solve_group(
    data: FitData, tokens: ReducedTrials, products: torch.Tensor, settings: ALSSettings
) -> tuple[Candidates, HeldOutErrors]:
    """Least squares under every penalty, from `sum_products`; their errors on held-out trials."""
    statistics = sum_statistics(tokens.training, data.r_train, products)
    penalties = _absolute(settings, tokens.training.components)
    path = _solve_path(statistics, penalties, settings)
    # As a rate, a linear predictor is never below zero.
    errors = _held_out_errors(path, tokens, data, lambda z: z.clamp(min=0))
    return Candidates(path=path, mean_tokens=statistics.mean_tokens), errors


def polish_group(
    data: FitData,
    tokens: ReducedTrials,
    products: torch.Tensor,
    candidates: Candidates,
    chosen: torch.Tensor,
    settings: ALSSettings,
) -> Polished:
    """From each neuron's chosen fit to its readout.

    That is its last step of polishing, or its best where the last is worse than the first on
    validation: taking every neuron's best would follow the noise of single trials.

    Parameters
    ----------
    chosen : tensor of shape (n_neurons,)
        Position of each neuron's penalty.
    """
    mean_tokens = candidates.mean_tokens
    batches = neuron_batches(len(chosen))
    trials = GroupTrials(tokens.training, mean_tokens, data.r_train, batches)
    chosen = chosen.to(data.device)
    penalties = torch.tensor(_absolute(settings, tokens.training.components), device=data.device)
    penalty = penalties[chosen]
    first, curvature = start(pick(candidates.path, chosen).factors, trials)
    covariance = token_covariance(products, len(data.r_train), mean_tokens)
    als = AlternatingLeastSquares(covariance, mean_tokens.shape, settings)
    rounds = 1 + settings.polish_rounds
    steps = list(polish(als, first, curvature, trials, penalty=penalty, rounds=rounds))
    iterates = [predictor for predictor, _ in steps]
    errors = _held_out_errors(iterates, tokens, data, rate)
    mean = errors.mean()
    best = torch.where(mean[:, -1] > mean[:, 0], mean.argmin(dim=1), len(iterates) - 1)
    return Polished(
        predictor=pick(iterates, best.to(data.device)),
        penalty=curvature * penalty / 2,
        losses=torch.stack([loss.cpu() for _, loss in steps], dim=1),
        errors=errors,
    )


def _absolute(settings: ALSSettings, components: Components) -> list[float]:
    """The penalties in the tokens' own units, decreasing."""
    unit = float(components.variances.sum())
    return [penalty * unit for penalty in sorted(settings.penalties, reverse=True)]


def _solve_path(
    statistics: Statistics, penalties: Sequence[float], settings: ALSSettings
) -> list[Predictor]:
    """The least-squares predictor for every penalty.

    The penalty in the middle comes first; from it, larger and smaller ones follow, each starting
    from the last.
    """
    grams = position_grams(statistics)
    als = AlternatingLeastSquares(statistics.gram, statistics.mean_tokens.shape, settings)
    middle = len(penalties) // 2
    order = [*range(middle, -1, -1), *range(middle + 1, len(penalties))]
    solved: list[list[Predictor]] = [[] for _ in penalties]
    for part in neuron_batches(len(statistics.cross)):
        own = statistics.of(part)
        factors = first = initial_factors(own, grams, penalties[middle])
        for number in order:
            begin = first if number == middle + 1 else factors
            ridge = torch.full_like(own.mean_responses, penalties[number])
            factors, _ = als.solve(own.cross, begin, ridge)
            first = factors if number == middle else first
            solved[number].append(centred(factors, own.mean_tokens, own.mean_responses))
    return [join(predictors) for predictors in solved]


def _held_out_errors(
    predictors: Sequence[Predictor],
    tokens: ReducedTrials,
    data: FitData,
    link: Callable[[torch.Tensor], torch.Tensor],
) -> HeldOutErrors:
    """Squared errors of several predictors on all validation trials."""
    responses = data.r_validation
    changing = torch.from_numpy(varies(responses.numpy()))
    variances = torch.where(changing, responses.var(dim=0, correction=0), 0)
    errors = HeldOutErrors(variances, len(predictors))
    for first, last, reduced in tokens.validation:
        numbers = torch.arange(first, last)
        for part in neuron_batches(responses.shape[1]):
            own = responses[first:last, part].to(reduced.device)
            squares = [(own - link(p.of(part)(reduced))).square() for p in predictors]
            errors.add(part, torch.stack(squares, dim=2), numbers)
    return errors
