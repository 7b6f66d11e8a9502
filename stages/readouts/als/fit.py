"""A fit by the default solver, in one process: group after group.

Neurons are fitted in groups that know nothing of each other but for the one choice between. So
groups may be fitted one after the other, as here, or wherever there is room.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from stages.executors.reports import report
from stages.readouts.als.groups import Polished, ReducedTrials, polish_group, solve_group
from stages.readouts.als.memory import plan_memory, problem_of
from stages.readouts.als.partition import neuron_groups
from stages.readouts.als.pca import Components, ReducedTokens, principal_components
from stages.readouts.als.penalties import choose, concatenate
from stages.readouts.als.predictor import as_readouts, join, pick
from stages.readouts.als.sufficient_statistics import sum_products
from stages.readouts.data import FitData
from stages.readouts.readout import Readouts
from stages.readouts.solver_protocol import OnEpoch
from stages.readouts.solver_settings import ALSSettings
from stages.tokens.random_access import temporary_folder
from stages.training.epoch import Epoch


@torch.inference_mode()
def fit_als(data: FitData, settings: ALSSettings, *, progress: OnEpoch | None = None) -> Readouts:
    """Fit every neuron by alternating least squares, and polish the result with the Poisson loss.

    Raises
    ------
    UserError
        Tokens that are not finite, or a memory limit that cannot be kept.
    """
    components = principal_components(data.x_train, settings, device=data.device)
    tokens = reduced_tokens(data, settings, components)
    groups = neuron_groups(data.r_train.shape[1])
    steps = 2 + 2 * len(groups)
    report(1, steps, f"{components.n_components} components of the tokens")
    products = sum_products(tokens.training, rows_at_once=tokens.plan.rows_at_once)
    report(2, steps, "products of the tokens summed")
    solved = [
        solve_group(data.of(group), tokens, products, settings)
        for group in _reported(groups, "solved", 2, steps)
    ]
    chosen = choose(concatenate([errors for _, errors in solved]), how=settings.selection)
    if settings.output == "linear":
        paths = zip(*(candidates.path for candidates, _ in solved), strict=True)
        linear = pick([join(predictors) for predictors in paths], chosen.to(data.device))
        return as_readouts(linear, components, output="linear")
    polished = [
        polish_group(data.of(group), tokens, products, candidates, chosen[group], settings)
        for group, (candidates, _) in zip(
            _reported(groups, "polished", 2 + len(groups), steps), solved, strict=True
        )
    ]
    readouts = polished_readouts(polished, components)
    if progress is not None:
        for epoch in readouts.curve:
            progress(epoch)
    return readouts


def _reported(groups: Sequence[slice], what: str, done: int, of: int) -> Iterator[slice]:
    """The groups, each reported when the next is asked for."""
    for number, group in enumerate(groups, start=1):
        yield group
        report(done + number, of, f"neurons {group.start} to {group.stop - 1} {what}")


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
    spill = None if plan.keep or once else temporary_folder(problem.reduced)
    return ReducedTrials(
        training=ReducedTokens(data.x_train, components, keep=plan.keep, spill=spill),
        validation=ReducedTokens(data.x_validation, components, keep=plan.keep, spill=spill),
        plan=plan,
    )


def polished_readouts(polished: Sequence[Polished], components: Components) -> Readouts:
    """All groups' readouts as one, with the learning curve of all neurons."""
    losses = torch.cat([each.losses for each in polished]).mean(dim=0)
    errors = concatenate([each.errors for each in polished])
    vary = errors.variances > 0
    scores = (1 - errors.mean()[vary] / errors.variances[vary, None]).mean(dim=0)
    curve = [
        Epoch(number, float(loss), float(score))
        for number, (loss, score) in enumerate(zip(losses, scores, strict=True))
    ]
    # Group by group, as a part of a divided fit expands and predicts its own.
    parts = [as_readouts(each.predictor, components, penalty=each.penalty) for each in polished]

    def joined(name: str) -> Any:
        return np.concatenate([getattr(part, name) for part in parts])

    return Readouts(
        row_weights=joined("row_weights"),
        column_weights=joined("column_weights"),
        channel_weights=joined("channel_weights"),
        bias=joined("bias"),
        scale=joined("scale"),
        penalty=joined("penalty"),
        curve=curve,
    )
