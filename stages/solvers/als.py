"""The default solver: factorised least squares from sufficient statistics, then polishing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from operator import add

import torch

from stages.readout import Epoch, Readouts, rate
from stages.settings import ALSSettings
from stages.solvers.alternation import (
    AlternatingLeastSquares,
    Factors,
    initial_factors,
    position_grams,
)
from stages.solvers.components import Components, ReducedTokens, principal_components
from stages.solvers.data import FitData
from stages.solvers.memory import Plan, Problem, plan_memory
from stages.solvers.polish import SLOPE_TRIALS, polish, start
from stages.solvers.predictor import Predictor, as_readouts, batches, join, pick
from stages.solvers.selection import ErrorMoments, choose
from stages.solvers.statistics import Statistics, sum_statistics

Link = Callable[[torch.Tensor], torch.Tensor]


@torch.inference_mode()
def fit_als(
    data: FitData, settings: ALSSettings, *, progress: Callable[[Epoch], None] | None = None
) -> Readouts:
    """Fit every neuron by alternating least squares, and polish the result with the Poisson loss.

    Parameters
    ----------
    progress : callable, optional
        Called after every step of polishing.

    Returns
    -------
    Readouts
        With scale 1: rates in units of the normalised responses.

    Raises
    ------
    UserError
        Tokens that are not finite, or a memory limit that cannot be kept.
    """
    stored = None if data.statistics is None else data.statistics.load(settings, data.device)
    components, products = stored or (_components(data, settings), None)
    plan = _plan(data, settings, components)
    training = ReducedTokens(data.x_train, components, keep=plan.keep)
    validation = ReducedTokens(data.x_validation, components, keep=plan.keep)
    folds = _folds(data, settings)
    parts = [
        sum_statistics(training, data.r_train, trials=fold, rows_at_once=plan.rows_at_once)
        for fold in folds
    ]
    if parts:
        sums = reduce(add, parts)
    else:
        sums = sum_statistics(
            training, data.r_train, products=products, rows_at_once=plan.rows_at_once
        )
    if data.statistics is not None and stored is None:
        data.statistics.save(settings, components, sums.products)
    statistics = sums.statistics()
    unit = float(components.variances.sum())
    penalties = [penalty * unit for penalty in sorted(settings.penalties, reverse=True)]
    path, explained = _solve_path(statistics, penalties, settings, plan)
    errors = ErrorMoments(len(sums.responses), len(penalties))
    _add_errors(errors, path, validation, data.r_validation, _clip, batch=plan.neurons)
    for fold, part in zip(folds, parts, strict=True):
        without, _ = _solve_path((sums - part).statistics(), penalties, settings, plan)
        _add_errors(errors, without, training, data.r_train, _clip, trials=fold, batch=plan.neurons)
    variances = data.r_validation.var(dim=0, correction=0)
    chosen = choose(errors, variances, explained, how=settings.selection).to(data.device)
    linear, penalty = pick(path, chosen), torch.tensor(penalties, device=data.device)[chosen]
    if settings.output == "linear":
        return as_readouts(linear, components, output="linear")
    del sums, parts, path
    first, curvature = start(linear.factors, training, data.r_train, batch=plan.neurons)
    steps = polish(
        AlternatingLeastSquares(
            statistics, tolerance=settings.tolerance, max_rounds=settings.max_rounds
        ),
        first,
        curvature,
        training,
        data.r_train,
        mean_tokens=statistics.mean_tokens,
        penalty=penalty,
        rounds=1 + settings.polish_rounds,
        batch=plan.neurons,
    )
    iterates, losses = [], []
    for number, (predictor, loss) in enumerate(steps):
        iterates.append(predictor)
        losses.append(float(loss.mean()))
        if progress is not None:
            progress(Epoch(number, losses[-1], float("nan")))
    best, scores = _stop_early(iterates, validation, data, variances, batch=plan.neurons)
    curve = [Epoch(n, *pair) for n, pair in enumerate(zip(losses, scores, strict=True))]
    return as_readouts(best, components, curve=curve, penalty=curvature * penalty / 2)


def _components(data: FitData, settings: ALSSettings) -> Components:
    return principal_components(
        data.x_train,
        variance_kept=settings.variance_kept,
        max_components=settings.max_components,
        max_images=settings.basis_images,
        scale_limit=settings.scale_limit,
        device=data.device,
    )


def _plan(data: FitData, settings: ALSSettings, components: Components) -> Plan:
    n_trials, rows, columns, _ = data.x_train.shape
    n_trials += data.x_validation.shape[0]
    problem = Problem(
        n_trials=n_trials,
        n_rows=rows,
        n_columns=columns,
        n_components=components.n_components,
        n_neurons=data.r_train.shape[1],
        n_penalties=len(settings.penalties),
        n_folds=settings.folds,
        n_slope_trials=min(n_trials, 2 * SLOPE_TRIALS),
    )
    return plan_memory(problem, data.memory_limit)


def _folds(data: FitData, settings: ALSSettings) -> list[torch.Tensor]:
    """Which training trials are in each fold: taken in turns."""
    number = torch.arange(len(data.r_train)) % max(1, settings.folds)
    return [number == fold for fold in range(settings.folds)]


def _solve_path(
    statistics: Statistics, penalties: Sequence[float], settings: ALSSettings, plan: Plan
) -> tuple[list[Predictor], torch.Tensor]:
    """The least-squares predictor for every penalty, and what each explains in training.

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
    explained = torch.zeros(len(statistics.cross), len(penalties), dtype=torch.float64)
    for part in batches(len(statistics.cross), plan.neurons):
        own = statistics.of(part)
        factors = initial_factors(own, grams, penalties[middle])
        first = factors
        for number in order:
            begin = first if number == middle + 1 else factors
            ridge = torch.full_like(own.variances, penalties[number])
            factors, objective = als.solve(own.cross, begin, ridge)
            first = factors if number == middle else first
            solved[number].append(_with_intercept(factors, own))
            explained[part, number] = -(objective / own.variances.clamp(min=1e-30)).double().cpu()
    return [join(predictors) for predictors in solved], explained


def _with_intercept(factors: Factors, statistics: Statistics) -> Predictor:
    mean = factors.predict(statistics.mean_tokens[None])[0]
    return Predictor(factors, statistics.mean_responses - mean)


def _clip(z: torch.Tensor) -> torch.Tensor:
    """A linear predictor as a rate: none is below zero."""
    return z.clamp(min=0)


def _add_errors(
    moments: ErrorMoments,
    predictors: Sequence[Predictor],
    tokens: ReducedTokens,
    responses: torch.Tensor,
    link: Link,
    *,
    trials: torch.Tensor | None = None,
    batch: int,
) -> None:
    """Take in the squared errors of several predictors on the given trials."""
    for first, last, reduced in tokens:
        x, r = reduced, responses[first:last]
        if trials is not None:
            x, r = x[trials[first:last]], r[trials[first:last]]
        for part in batches(r.shape[1], batch):
            own = r[:, part].to(x.device)
            errors = [(own - link(p.of(part)(x))).square() for p in predictors]
            moments.add(part, torch.stack(errors, dim=2))


def _stop_early(
    iterates: Sequence[Predictor],
    validation: ReducedTokens,
    data: FitData,
    variances: torch.Tensor,
    *,
    batch: int,
) -> tuple[Predictor, list[float]]:
    """Each neuron's last step, or its best where the last is worse than the first on validation.

    Taking every neuron's best would follow the noise of single trials. Also the mean scores of all
    steps.
    """
    errors = ErrorMoments(len(variances), len(iterates))
    _add_errors(errors, iterates, validation, data.r_validation, rate, batch=batch)
    mean = errors.total / errors.count
    chosen = torch.where(mean[:, -1] > mean[:, 0], mean.argmin(dim=1), len(iterates) - 1)
    scores = 1 - mean[variances > 0] / variances[variances > 0, None]
    averages = scores.mean(dim=0).tolist() if len(scores) else [float("nan")] * len(iterates)
    return pick(iterates, chosen.to(data.device)), averages
