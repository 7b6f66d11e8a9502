"""One group of neurons: its least squares, then its polishing once all neurons have chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from stages.readouts.als.alternating import (
    AlternatingLeastSquares,
    Factors,
    initial_factors,
    position_grams,
)
from stages.readouts.als.memory import MemoryPlan
from stages.readouts.als.pca import Components, ReducedTokens
from stages.readouts.als.penalties import HeldOutErrors
from stages.readouts.als.polish import polish, start
from stages.readouts.als.predictor import Predictor, join, neuron_batches, pick
from stages.readouts.als.sufficient_statistics import (
    Statistics,
    pair_products,
    sum_statistics,
)
from stages.readouts.data import FitData
from stages.readouts.readout import rate
from stages.readouts.solver_settings import ALSSettings

Link = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class TokenSums:
    """What a fit needs to know of the training tokens alone.

    Parameters
    ----------
    components : Components
        Of the channels.
    products : tensor
        From `sum_products`.
    """

    components: Components
    products: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class ReducedTrials:
    """The reduced tokens of a fit, and how much of it is held at once."""

    training: ReducedTokens
    validation: ReducedTokens
    plan: MemoryPlan


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What one group's fits are worth: all that a choice between penalties takes.

    Parameters
    ----------
    errors : HeldOutErrors
        Of held-out trials.
    variances : tensor of shape (n_neurons,)
        Of the validation responses.
    """

    errors: HeldOutErrors
    variances: torch.Tensor


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
    losses, errors : tensor of shape (n_neurons, n_steps)
        Training loss before, and mean squared validation error after, every step.
    """

    predictor: Predictor
    penalty: torch.Tensor
    losses: torch.Tensor
    errors: torch.Tensor


def solve_group(
    data: FitData, tokens: ReducedTrials, known: TokenSums, settings: ALSSettings
) -> tuple[Candidates, Scores]:
    """Least squares under every penalty, and what each is worth on held-out trials."""
    plan = tokens.plan
    statistics = sum_statistics(tokens.training, data.r_train, known.products)
    penalties = absolute(settings, known.components)
    path = _solve_path(statistics, penalties, settings, plan)
    errors = HeldOutErrors(data.r_train.shape[1], len(penalties))
    _add_errors(errors, path, tokens.validation, data.r_validation, _clip, batch=plan.neurons)
    scores = Scores(
        errors=errors,
        variances=data.r_validation.var(dim=0, correction=0),
    )
    return Candidates(path=path, mean_tokens=statistics.mean_tokens), scores


def polish_group(
    data: FitData,
    tokens: ReducedTrials,
    known: TokenSums,
    candidates: Candidates,
    chosen: torch.Tensor,
    settings: ALSSettings,
) -> Polished:
    """From each neuron's chosen fit to its readout.

    Parameters
    ----------
    chosen : tensor of shape (n_neurons,)
        Position of each neuron's penalty.
    """
    training, batch = tokens.training, tokens.plan.neurons
    linear = pick(candidates.path, chosen.to(data.device))
    penalties = torch.tensor(absolute(settings, training.components), device=data.device)
    penalty = penalties[chosen.to(data.device)]
    first, curvature = start(linear.factors, training, data.r_train, batch=batch)
    steps = polish(
        AlternatingLeastSquares(
            _of_no_neuron(known, candidates.mean_tokens, len(data.r_train)),
            tolerance=settings.tolerance,
            max_rounds=settings.max_rounds,
        ),
        first,
        curvature,
        training,
        data.r_train,
        mean_tokens=candidates.mean_tokens,
        penalty=penalty,
        rounds=1 + settings.polish_rounds,
        batch=batch,
    )
    iterates, losses = [], []
    for predictor, loss in steps:
        iterates.append(predictor)
        losses.append(loss.cpu())
    best, errors = _stop_early(iterates, tokens.validation, data, batch=batch)
    return Polished(
        predictor=best,
        penalty=curvature * penalty / 2,
        losses=torch.stack(losses, dim=1),
        errors=errors,
    )


def absolute(settings: ALSSettings, components: Components) -> list[float]:
    """The penalties in the tokens' own units, decreasing."""
    unit = float(components.variances.sum())
    return [penalty * unit for penalty in sorted(settings.penalties, reverse=True)]


def _solve_path(
    statistics: Statistics, penalties: Sequence[float], settings: ALSSettings, plan: MemoryPlan
) -> list[Predictor]:
    """The least-squares predictor for every penalty.

    The penalty in the middle comes first; from it, larger and smaller ones follow, each starting
    from the last.
    """
    grams = position_grams(statistics)
    als = AlternatingLeastSquares(
        statistics, tolerance=settings.tolerance, max_rounds=settings.max_rounds
    )
    middle = len(penalties) // 2
    order = [*range(middle, -1, -1), *range(middle + 1, len(penalties))]
    solved: list[list[Predictor]] = [[] for _ in penalties]
    for part in neuron_batches(len(statistics.cross), plan.neurons):
        own = statistics.of(part)
        factors = initial_factors(own, grams, penalties[middle])
        first = factors
        for number in order:
            begin = first if number == middle + 1 else factors
            ridge = torch.full_like(own.variances, penalties[number])
            factors, _ = als.solve(own.cross, begin, ridge)
            first = factors if number == middle else first
            solved[number].append(_with_intercept(factors, own))
    return [join(predictors) for predictors in solved]


def _with_intercept(factors: Factors, statistics: Statistics) -> Predictor:
    mean = factors.predict(statistics.mean_tokens[None])[0]
    return Predictor(factors, statistics.mean_responses - mean)


def _clip(z: torch.Tensor) -> torch.Tensor:
    """A linear predictor as a rate: none is below zero."""
    return z.clamp(min=0)


def _of_no_neuron(known: TokenSums, mean_tokens: torch.Tensor, n_trials: int) -> Statistics:
    """The statistics of the tokens alone."""
    nothing = mean_tokens.new_zeros(0)
    return Statistics(
        mean_tokens=mean_tokens,
        mean_responses=nothing,
        variances=nothing,
        gram=known.products / n_trials - pair_products(mean_tokens),
        cross=mean_tokens.new_zeros(0, *mean_tokens.shape),
    )


def _add_errors(
    sums: HeldOutErrors,
    predictors: Sequence[Predictor],
    tokens: ReducedTokens,
    responses: torch.Tensor,
    link: Link,
    *,
    batch: int,
) -> None:
    """Take in the squared errors of several predictors on all trials."""
    for first, last, reduced in tokens:
        numbers = torch.arange(first, last)
        for part in neuron_batches(responses.shape[1], batch):
            own = responses[first:last, part].to(reduced.device)
            errors = [(own - link(p.of(part)(reduced))).square() for p in predictors]
            sums.add(part, torch.stack(errors, dim=2), numbers)


def _stop_early(
    iterates: Sequence[Predictor], validation: ReducedTokens, data: FitData, *, batch: int
) -> tuple[Predictor, torch.Tensor]:
    """Each neuron's last step, or its best where the last is worse than the first on validation.

    Taking every neuron's best would follow the noise of single trials. Also the mean errors of all
    steps, tensor of shape (n_neurons, n_steps).
    """
    errors = HeldOutErrors(data.r_validation.shape[1], len(iterates))
    _add_errors(errors, iterates, validation, data.r_validation, rate, batch=batch)
    mean = errors.mean()
    chosen = torch.where(mean[:, -1] > mean[:, 0], mean.argmin(dim=1), len(iterates) - 1)
    return pick(iterates, chosen.to(data.device)), mean
