"""A fit by the default solver, in one process: group after group.

Neurons are fitted in groups that know nothing of each other but for the one choice between. So
groups may be fitted one after the other, as here, or wherever there is room.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import torch

from stages.executors.reports import report
from stages.readouts.als.groups import (
    Finished,
    finish_group,
    refit_linear,
    solve_group,
)
from stages.readouts.als.memory import plan_memory, problem_of
from stages.readouts.als.partition import neuron_groups
from stages.readouts.als.pca import Components, ReducedTokens, principal_components
from stages.readouts.als.penalties import HeldOutErrors, choose, concatenate
from stages.readouts.als.predictor import as_readouts, join
from stages.readouts.als.trials.ways import FitProducts, ReducedTrials, products_of
from stages.readouts.data import FitData
from stages.readouts.readout import Readouts, joined
from stages.readouts.solver_protocol import OnEpoch
from stages.readouts.solver_settings import ALSSettings
from stages.tokens.random_access import temporary_folder
from stages.training.epoch import Epoch


@torch.inference_mode()
def fit_als(data: FitData, settings: ALSSettings, *, progress: OnEpoch | None = None) -> Readouts:
    """Fit every neuron by alternating least squares, and turn the result into the shared readout.

    Raises
    ------
    UserError
        Tokens that are not finite, or a memory limit that cannot be kept.
    """
    components = principal_components(
        data.x_train, settings, device=data.device, sources=data.sources
    )
    tokens = reduced_tokens(data, settings, components)
    groups = neuron_groups(data.r_train.shape[1])
    steps = 2 + 2 * len(groups)
    report(1, steps, f"{components.n_components} components of the tokens")
    products = products_of(tokens.training, tokens.plan)
    report(2, steps, "products of the tokens summed")
    solved = [
        solve_group(data.of(group), tokens, products, settings)
        for group in _reported(groups, "solved", 2, steps)
    ]
    chosen = choose_penalties([errors for _, errors in solved], settings)
    both = None
    if settings.refit and tokens.plan.batch is None:
        both = products + products_of(tokens.validation, tokens.plan)
    every = FitProducts(products, both)
    if settings.output == "linear":
        as_linear = partial(
            as_readouts, components=components, output="signed" if data.signed else "linear"
        )
        paths = list(zip(groups, (path for path, _ in solved), strict=True))
        first = as_linear(join([path.pick(chosen[own].to(data.device)) for own, path in paths]))
        if not settings.refit:
            return first
        again = [
            refit_linear(data.of(own), tokens, every, path, chosen[own], settings)
            for own, path in paths
        ]
        return replace(as_linear(join(again)), unrefitted=first)
    finished = [
        finish_group(data.of(group), tokens, every, path, chosen[group], settings)
        for group, (path, _) in zip(
            _reported(groups, "finished", 2 + len(groups), steps), solved, strict=True
        )
    ]
    readouts = finished_readouts(finished, components)
    if progress is not None:
        for epoch in readouts.curve:
            progress(epoch)
    return readouts


def _reported(groups: Sequence[slice], what: str, done: int, of: int) -> Iterator[slice]:
    """The groups, each reported when the next is asked for."""
    for number, group in enumerate(groups, start=1):
        yield group
        report(done + number, of, f"neurons {group.start} to {group.stop - 1} {what}")


def choose_penalties(errors: Sequence[HeldOutErrors], settings: ALSSettings) -> torch.Tensor:
    """Each neuron's choice, from the errors of all groups; the last predicts the mean."""
    every = concatenate(errors)
    # Other neurons may still get a slope of zero.
    without = every.total.shape[2] - 1 if settings.output == "linear" else None
    return choose(every, how=settings.selection, without=without)


def reduced_tokens(
    data: FitData, settings: ALSSettings, components: Components, *, once: bool = False
) -> ReducedTrials:
    """The tokens as the steps read them, and how much of everything is held at once.

    Parameters
    ----------
    once : bool
        They are read a single time: what memory does not hold is not written to a disk either.

    Raises
    ------
    UserError
        A memory limit that cannot be kept.
    """
    problem = problem_of(data.size, settings, n_components=components.n_components)
    plan = plan_memory(problem, data.memory_limit)
    # On the trials, every batch of neurons reads them again and again.
    once = once and plan.batch is None
    spill = None if plan.keep or once else temporary_folder(problem.reduced)
    return ReducedTrials(
        training=ReducedTokens(data.x_train, components, keep=plan.keep, spill=spill),
        validation=ReducedTokens(data.x_validation, components, keep=plan.keep, spill=spill),
        plan=plan,
    )


def finished_readouts(finished: Sequence[Finished], components: Components) -> Readouts:
    """All groups' readouts as one, with the loss and the validation score of all neurons."""
    scores = torch.cat([each.scores for each in finished]).nanmean(dim=0)
    losses = torch.cat([each.losses for each in finished]).mean(dim=0)
    curve = [
        Epoch(number, float(loss), float(score))
        for number, (loss, score) in enumerate(zip(losses, scores, strict=True))
    ]
    # Group by group, as a part of a divided fit expands and predicts its own.
    first = joined(
        [as_readouts(each.predictor, components, penalty=each.penalty) for each in finished]
    )
    again = [
        as_readouts(each.refitted, components, penalty=each.penalty)
        for each in finished
        if each.refitted is not None
    ]
    if not again:
        return replace(first, curve=curve)
    return replace(joined(again), curve=curve, unrefitted=first)
