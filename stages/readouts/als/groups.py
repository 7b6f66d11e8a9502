"""One group of neurons: its least squares, then its readouts once all neurons have chosen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from stages.readouts.als.alternating import initial_factors
from stages.readouts.als.calibration import (
    FIRST_SLOPES,
    LEAST_MEAN,
    Calibration,
    quick_rate,
)
from stages.readouts.als.partition import neuron_batches
from stages.readouts.als.pca import Components, ReducedTokens
from stages.readouts.als.penalties import HeldOutErrors, choose
from stages.readouts.als.predictor import Path, Predictor, join_paths
from stages.readouts.als.trials.steps import CAUTION, STEPS
from stages.readouts.als.trials.ways import (
    Equations,
    FitProducts,
    ReducedTrials,
    equations_of,
    steps_of,
)
from stages.readouts.data import FitData
from stages.readouts.readout import Output, predicted
from stages.readouts.solver_settings import ALSSettings
from stages.spread import varies

#: Validation trials that all choices are compared on at a time.
TRIALS_AT_ONCE = 256


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
        `products_of` the training trials.
    """
    equations = equations_of(data, tokens, products, settings)
    path = _solve_path(equations, penalties_of(settings, tokens.training.components), settings)
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
    penalty, varied = _penalty_of(chosen, penalties_of(settings, tokens.training.components))
    mean = _means(data)
    steps = steps_of(data, tokens, products, settings)
    calibrated = partial(Calibration, tokens=tokens.training, there=steps.there)
    # With this unit, small changes of the rates are left as they are.
    start = calibrated(path.pick(chosen), mean=mean, unit=1 / mean.clamp(min=LEAST_MEAN, max=1))
    slopes = [torch.full_like(mean, slope) for slope in FIRST_SLOPES]
    factor, first_scores = _choose_slopes(start, slopes, tokens, data, settings, without=None)
    begin = start.rates_of(factor)
    first_loss = start.loss(data.r_train, begin, factor)
    curvature = start.curvature(begin, factor)

    def stepped(sums: Any, mean: torch.Tensor, *, refit: bool = False) -> Calibration:
        after = steps.step(begin, sums, penalty / CAUTION, refit=refit)
        # Who keeps to the mean has no slope.
        return calibrated(after, mean=mean, unit=varied.to(mean.dtype))

    sums: Any = steps.sums(begin, curvature)
    now = stepped(sums, mean)
    for _ in range(STEPS - 1):
        factor = torch.ones_like(mean)
        begin = now.rates_of(factor)
        curvature = now.curvature(begin, factor)
        sums = steps.sums(begin, curvature)
        now = stepped(sums, mean)
    slopes = now.slopes(data.r_train)
    factor, scores = _choose_slopes(now, slopes, tokens, data, settings, without=0)
    rates = now.rates_of(factor)
    loss, end_curvature = now.loss(data.r_train, rates, factor), now.curvature(rates, factor)
    again = None
    if settings.refit:
        # The last step once more, with the validation trials added to its sums.
        more: Any = steps.sums(begin, curvature, held_out=True)
        again = stepped(sums + more, _means(data, validation=True), refit=True).rates_of(factor)
    return Finished(
        predictor=rates,
        refitted=again,
        penalty=end_curvature * penalty / 2,
        losses=torch.stack([first_loss, loss], dim=1).cpu(),
        scores=torch.stack([first_scores, scores], dim=1),
    )


def refit_linear(
    data: FitData,
    tokens: ReducedTrials,
    products: FitProducts,
    path: Path,
    chosen: torch.Tensor,
    settings: ALSSettings,
) -> Predictor:
    """Each neuron's chosen fit, with channels fitted to the validation trials, too.

    The parameters are those of `finish_group`.
    """
    chosen = chosen.to(data.device)
    begin = path.pick(chosen)
    penalty, varied = _penalty_of(chosen, penalties_of(settings, tokens.training.components))
    steps = steps_of(data, tokens, products, settings)
    sums: Any = steps.sums_of_responses(begin)
    more: Any = steps.sums_of_responses(begin, held_out=True)
    after = steps.step(begin, sums + more, penalty, refit=True)
    mean = Predictor(begin.factors, _means(data, validation=True))
    return after.where(varied, mean)


def _penalty_of(chosen: torch.Tensor, choices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Each neuron's penalty, and whether it has one: the last choice predicts the mean."""
    varied = chosen < len(choices)
    return choices[torch.where(varied, chosen, 0)], varied


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


def _solve_path(
    equations: Iterable[Equations], choices: torch.Tensor, settings: ALSSettings
) -> Path:
    """Rows and columns under the penalty in the middle; channels under every one; the mean.

    Space hardly depends on the penalty, and is found on the leading components alone.
    """
    middle = choices[len(choices) // 2]
    solved = []
    for own in equations:
        begin = initial_factors(own.cross, own.grams, float(middle))
        space, _ = own.alternation.solve(own.cross, begin, middle.expand(len(own.cross)))
        normal, pooled = own.channels(space)
        channels = [normal.solve(penalty)[0] for penalty in choices]
        channels.append(torch.zeros_like(channels[0]))
        every = torch.stack(channels, dim=1)
        bias = own.mean_responses[:, None] - (every * pooled[:, None]).sum(dim=2)
        solved.append(Path(space.row, space.column, every, bias))
    return join_paths(solved)


def _errors_of_path(path: Path, tokens: ReducedTrials, data: FitData) -> HeldOutErrors:
    """Squared errors of every choice, with no prediction below zero where no response is."""
    output: Output = "signed" if data.signed else "linear"
    errors = _no_errors(data, path.bias.shape[1])
    for number, some in _few_at_once(tokens.validation):
        for part in neuron_batches(len(path.bias)):
            own = data.r_validation[number : number + len(some), part].to(some.device)
            rates = predicted(path.of(part)(some), output)
            errors.add(part, rates.sub_(own[:, :, None]).square_(), number)
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
    slopes, shifts = calibration.roughly(torch.stack(list(choices), dim=1))
    for number, some in _few_at_once(tokens.validation):
        for part in neuron_batches(len(linear.bias)):
            own = data.r_validation[number : number + len(some), part].to(some.device)
            z = linear.of(part)(some)[:, :, None] * slopes[part]
            rates = quick_rate(z.add_(shifts[part]))
            errors.add(part, rates.sub_(own[:, :, None]).square_(), number)
    return errors


def _few_at_once(tokens: ReducedTokens) -> Iterator[tuple[int, torch.Tensor]]:
    """Number of the first of some trials, and their tokens."""
    for first, _, reduced in tokens:
        for start in range(0, len(reduced), TRIALS_AT_ONCE):
            yield first + start, reduced[start : start + TRIALS_AT_ONCE]


def _no_errors(data: FitData, n_choices: int) -> HeldOutErrors:
    responses = data.r_validation
    changing = torch.from_numpy(varies(responses.numpy()))
    mean = torch.nanmean if data.incomplete else torch.mean
    variances = mean((responses - mean(responses, dim=0)).square(), dim=0)
    return HeldOutErrors(
        torch.where(changing, variances, 0), n_choices, complete=not data.incomplete
    )


def _means(data: FitData, *, validation: bool = False) -> torch.Tensor:
    """Each neuron's mean response over its own training trials, and its validation trials too."""
    mean = torch.nanmean if data.incomplete else torch.mean
    r = torch.cat([data.r_train, data.r_validation]) if validation else data.r_train
    return mean(r, dim=0, dtype=torch.float64).float().to(data.device)
