"""One group of neurons: its least squares, then its readouts once all neurons have chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from stages.readouts.als.alternating import (
    AlternatingLeastSquares,
    initial_factors,
    position_grams,
)
from stages.readouts.als.memory import MemoryPlan
from stages.readouts.als.partition import SPACE_COMPONENTS, neuron_batches
from stages.readouts.als.pca import Components, ReducedTokens
from stages.readouts.als.penalties import HeldOutErrors, choose
from stages.readouts.als.poisson import (
    FIRST_SLOPES,
    LEAST_MEAN,
    STEPS,
    Calibration,
    rate,
    step,
    sum_targets,
)
from stages.readouts.als.predictor import Path, Predictor, join_paths
from stages.readouts.als.sufficient_statistics import Statistics, TrialSums, sum_trials
from stages.readouts.data import FitData
from stages.readouts.solver_settings import ALSSettings
from stages.spread import varies

#: Validation trials whose tokens are pooled at a time.
TRIALS_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True)
class ReducedTrials:
    """The reduced tokens of a fit, and how much of it is held at once."""

    training: ReducedTokens
    validation: ReducedTokens
    plan: MemoryPlan


class FitProducts(NamedTuple):
    """`sum_products` over the training trials, and over these and the validation trials.

    `both` is None where there is no fit to both.
    """

    training: torch.Tensor
    both: torch.Tensor | None


@dataclass(frozen=True, kw_only=True)
class Finished:
    """One group's end.

    Parameters
    ----------
    predictor : Predictor
        Fitted to the training trials alone.
    refitted : Predictor, optional
        Fitted to the validation trials, too.
    penalty : tensor of shape (n_neurons,)
        Of the summed squared weights, in the Poisson loss of the training trials.
    losses, scores : tensor of shape (n_neurons, 2)
        Training loss and variance explained on validation, of the least-squares fit and of
        `predictor`; NaN where responses do not vary.
    """

    predictor: Predictor
    refitted: Predictor | None
    penalty: torch.Tensor
    losses: torch.Tensor
    scores: torch.Tensor


def penalties_of(settings: ALSSettings, components: Components) -> torch.Tensor:
    """The penalties in the tokens' own units, decreasing."""
    penalties = torch.tensor(sorted(settings.penalties, reverse=True))
    return penalties.to(components.variances.device) * components.variances.sum()


def solve_group(
    data: FitData, tokens: ReducedTrials, products: torch.Tensor, settings: ALSSettings
) -> tuple[Path, HeldOutErrors]:
    """Least squares under every penalty, and their errors on held-out trials.

    The last choice is each neuron's mean, as an endless penalty has it.

    Parameters
    ----------
    products : tensor
        `sum_products` over the training trials.
    """
    statistics = sum_trials(tokens.training, data.r_train).statistics(products)
    path = _solve_path(statistics, penalties_of(settings, tokens.training.components), settings)
    return path, _errors_of_path(path, tokens, data)


def finish_group(
    data: FitData,
    tokens: ReducedTrials,
    products: FitProducts,
    path: Path,
    chosen: torch.Tensor,
    settings: ALSSettings,
) -> Finished:
    """From each neuron's chosen fit to its readout, and to another of all trials.

    Both are steps of Fisher scoring from the calibrated least-squares fit, and calibrated again.

    Parameters
    ----------
    chosen : tensor of shape (n_neurons,)
        Position of each neuron's choice.
    """
    chosen = chosen.to(data.device)
    choices = penalties_of(settings, tokens.training.components)
    varied = chosen < len(choices)
    penalty = choices[torch.where(varied, chosen, 0)]
    mean = data.r_train.double().mean(dim=0).float().to(data.device)
    linear = path.pick(chosen)
    # With this unit, small changes of the rates are left as they are.
    start = Calibration(linear, tokens.training, mean, unit=1 / mean.clamp(min=LEAST_MEAN, max=1))
    slopes = [torch.full_like(mean, slope) for slope in FIRST_SLOPES]
    factor, first_scores = _choose_slopes(start, slopes, tokens, data, settings, without=None)
    begin = start.rates_of(factor)
    first_loss, curvature = start.loss_and_curvature(data.r_train, begin, factor)

    def stepped(sums: TrialSums, products: torch.Tensor, mean: torch.Tensor) -> Calibration:
        after = step(begin, sums.statistics(products), penalty, settings)
        # Who keeps to the mean has no slope.
        return Calibration(after, tokens.training, mean, unit=varied.to(mean.dtype))

    sums = sum_targets(begin, curvature, tokens.training, data.r_train)
    now = stepped(sums, products.training, mean)
    for _ in range(STEPS - 1):
        factor = torch.ones_like(mean)
        begin = now.rates_of(factor)
        _, curvature = now.loss_and_curvature(data.r_train, begin, factor)
        sums = sum_targets(begin, curvature, tokens.training, data.r_train)
        now = stepped(sums, products.training, mean)
    slopes = now.slopes(data.r_train)
    factor, scores = _choose_slopes(now, slopes, tokens, data, settings, without=0)
    rates = now.rates_of(factor)
    loss, end_curvature = now.loss_and_curvature(data.r_train, rates, factor)
    again = None
    if products.both is not None:
        # The last step once more, with the validation trials added to its sums.
        more = sum_targets(begin, curvature, tokens.validation, data.r_validation)
        every = torch.cat([data.r_train, data.r_validation]).double().mean(dim=0)
        after = stepped(sums + more, products.both, every.float().to(data.device))
        again = after.rates_of(factor)
    return Finished(
        predictor=rates,
        refitted=again,
        penalty=end_curvature * penalty / 2,
        losses=torch.stack([first_loss, loss], dim=1).cpu(),
        scores=torch.stack([first_scores, scores], dim=1),
    )


def _choose_slopes(
    calibration: Calibration,
    slopes: Sequence[torch.Tensor],
    tokens: ReducedTrials,
    data: FitData,
    settings: ALSSettings,
    *,
    without: int | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Each neuron's slope, and its variance explained on the validation trials with it."""
    errors = _errors_of_rates(calibration, slopes, tokens, data)
    chosen = choose(errors, how=settings.selection, without=without)
    unexplained = errors.mean().gather(1, chosen[:, None])[:, 0] / errors.variances
    scores = torch.where(errors.variances > 0, 1 - unexplained, torch.nan)
    return torch.stack(list(slopes), dim=1).gather(1, chosen[:, None].to(data.device))[:, 0], scores


def _solve_path(statistics: Statistics, choices: torch.Tensor, settings: ALSSettings) -> Path:
    """Rows and columns under the penalty in the middle; channels under every one; the mean.

    Space hardly depends on the penalty, and is found on the leading components alone.
    """
    grid = statistics.mean_tokens.shape
    als = AlternatingLeastSquares(statistics.gram, grid, settings)
    leading = als.leading(SPACE_COMPONENTS)
    middle = choices[len(choices) // 2]
    grams = position_grams(leading.gram, (leading.h, leading.w, leading.k))
    solved = []
    for part in neuron_batches(len(statistics.cross)):
        own = statistics.of(part)
        cross = own.cross[..., : leading.k].contiguous()
        begin = initial_factors(cross, grams, float(middle))
        space, _ = leading.solve(cross, begin, middle.expand(len(cross)))
        normal = als.normal(own.cross, space)
        channels = [normal.solve(penalty)[0] for penalty in choices]
        channels.append(torch.zeros_like(channels[0]))
        pooled = torch.bmm(
            space.space()[:, None], own.mean_tokens.flatten(0, 1).expand(len(cross), -1, -1)
        )
        every = torch.stack(channels, dim=1)
        bias = own.mean_responses[:, None] - (every * pooled).sum(dim=2)
        solved.append(Path(space.row, space.column, every, bias))
    return join_paths(solved)


def _errors_of_path(path: Path, tokens: ReducedTrials, data: FitData) -> HeldOutErrors:
    """Squared errors of every choice; as a rate, a linear predictor is never below zero."""
    errors = _no_errors(data, path.bias.shape[1])
    for first, _, reduced in tokens.validation:
        for start in range(0, len(reduced), TRIALS_AT_ONCE):
            some = reduced[start : start + TRIALS_AT_ONCE]
            numbers = torch.arange(first + start, first + start + len(some))
            for part in neuron_batches(len(path.bias)):
                own = data.r_validation[numbers, part].to(reduced.device)
                rates = path.of(part)(some).clamp(min=0)
                errors.add(part, (own[:, :, None] - rates).square(), numbers)
    return errors


def _errors_of_rates(
    calibration: Calibration,
    choices: Sequence[torch.Tensor],
    tokens: ReducedTrials,
    data: FitData,
) -> HeldOutErrors:
    """Squared errors of the rates with every slope."""
    errors = _no_errors(data, len(choices))
    linear = calibration.predictor
    slopes = [factor * calibration.unit for factor in choices]
    shifts = [
        calibration.rates_of(factor, roughly=True).bias - slope * linear.bias
        for factor, slope in zip(choices, slopes, strict=True)
    ]
    for first, last, reduced in tokens.validation:
        numbers = torch.arange(first, last)
        for part in neuron_batches(len(linear.bias)):
            own = data.r_validation[first:last, part].to(reduced.device)
            predicted = linear.of(part)(reduced)
            squares = [
                (own - rate(slope[part] * predicted + shift[part])).square()
                for slope, shift in zip(slopes, shifts, strict=True)
            ]
            errors.add(part, torch.stack(squares, dim=2), numbers)
    return errors


def _no_errors(data: FitData, n_choices: int) -> HeldOutErrors:
    responses = data.r_validation
    changing = torch.from_numpy(varies(responses.numpy()))
    return HeldOutErrors(torch.where(changing, responses.var(dim=0, correction=0), 0), n_choices)
