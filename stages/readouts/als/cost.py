"""Cost of a fit by least squares: time, memory and bytes read, from the sizes of a problem.

Counts of operations follow from the algorithm; the rates are measured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from stages.costs import Cost, Portion
from stages.executors.resources import PROCESS
from stages.readouts.als.memory import SLOPE_TRIALS, Problem, plan_memory, problem_of
from stages.readouts.als.partition import SPACE_COMPONENTS, largest_group, neuron_groups, shards
from stages.readouts.core_speed import RATES
from stages.readouts.sizes import FitSize
from stages.readouts.solver_settings import ALSSettings
from stages.tokens.tokens import IN_MEMORY

#: Rounds of the alternation that a neuron takes, on average.
ROUNDS = 5

#: Looks at a predicted response: for the steps of Fisher scoring, and for slopes and offsets of a
#: trial that these are found on.
STEP_LOOKS = 6
SLOPE_LOOKS = 25

#: Passes over the tokens that a group makes once its penalties are chosen, and those that each
#: batch of neurons makes where steps are taken on the trials.
FINISHING_PASSES = 6
PASSES_ON_TRIALS = 2 * ROUNDS + 5


def als_operations(
    size: FitSize, settings: ALSSettings, *, divided: bool = False, kept: bool = True
) -> tuple[Counter[str], Counter[str]]:
    """Operations of fitting one condition, in billions; "start" is one.

    Parameters
    ----------
    divided : bool
        In parts: each group of neurons reads the tokens for itself.
    kept : bool
        Reduced tokens stay in memory; where they do not, a disk holds them from pass to pass.

    Returns
    -------
    shards, groups : Counter
        What is summed over shards of trials, then what is computed for groups of neurons.
    """
    p = problem_of(size, settings)
    k, c = p.n_components, size.n_channels
    leading = min(k, SPACE_COMPONENTS)
    n_groups = len(neuron_groups(p.n_neurons))
    # A group of a divided fit reads them to solve, and to finish.
    reads = 2 * n_groups if divided else 1
    spilled = 0 if kept else n_groups * (FINISHING_PASSES + (0 if divided else 1))
    if p.batch is not None and not kept:
        spilled += -(-p.n_neurons // p.batch) * PASSES_ON_TRIALS
    rows = p.n_rows * (p.n_rows + 1) // 2
    columns = p.n_columns * (p.n_columns + 1) // 2
    moments = min(p.n_trials, settings.basis_images) * size.places * c**2
    reduced = p.n_trials * size.places * c * k
    products = p.n_trials * rows * columns * k**2
    slopes = min(p.n_trials, SLOPE_TRIALS)
    neurons = p.n_neurons * size.places * k * (5 * p.n_trials + 4 * slopes)
    looks = STEP_LOOKS * p.n_trials + SLOPE_LOOKS * slopes
    pairs = rows * columns * k * (k + 1) / 2
    space = ROUNDS * (rows * columns * leading * (leading + 1) + leading**3 / 3)
    solves = p.n_neurons * (space + 4 * pairs + (p.n_penalties + 3) * k**3 / 3)
    if p.on_trials:
        products = p.n_trials * size.places * leading**2
        # Pooled and projected in every round; pooled for the path, and again for the steps, whose
        # products are the same.
        round_ = size.places * 2 * leading + leading**2
        pooled = size.places * (leading + 8 * k) + 2 * k**2
        neurons = p.n_neurons * p.n_trials * (ROUNDS * round_ + pooled)
        assert p.batch is not None
        start = -(-p.n_neurons // p.batch) * size.places * leading**3 / 3
        solves = start + p.n_neurons * (ROUNDS * leading**3 + (p.n_penalties + 3) * k**3) / 3
    of_shards = {
        "start": 1.0,
        # In one process and kept in memory, all of it is one read, and reduced once.
        "bytes read": (2 if divided or not kept else 0) * size.stored / 1e9,
        "token products": 2 * (moments + products + divided * reduced) / 1e9,
    }
    of_groups = {
        "bytes read": reads * size.stored / 1e9,
        "bytes spilled": spilled * p.reduced / 1e9,
        "token products": 2 * reads * reduced / 1e9,
        "neuron products": 2 * neurons / 1e9,
        "responses": looks * p.n_neurons / 1e9,
        "solving": 2 * solves / 1e9,
    }
    return +Counter(of_shards), +Counter(of_groups)  # without what is zero


def als_cost(
    size: FitSize,
    settings: ALSSettings,
    *,
    divided: bool = False,
    memory_limit: int | None = None,
    rates: Mapping[str, float] = RATES,
) -> Cost:
    """The cost of one condition; see `als_operations` and `Solver.cost`."""
    memory, kept = _peak_memory(size, settings, divided=divided, limit=memory_limit)
    of_shards, of_groups = als_operations(size, settings, divided=divided, kept=kept)
    operations = of_shards + of_groups
    shares = {name: rates[name] * number for name, number in operations.items()}
    phases: tuple[Portion, ...] = (Portion(sum(shares.values())),)
    if divided:
        shape = size.n_trials, size.n_rows, size.n_columns, size.n_channels
        parts = len(shards(shape)), len(neuron_groups(size.n_neurons))
        phases = tuple(
            Portion(sum(rates[name] * number for name, number in each.items()), n)
            for each, n in zip((of_shards, of_groups), parts, strict=True)
        )
    return Cost(phases=phases, n_bytes=operations["bytes read"] * 1e9, memory=memory, shares=shares)


def held_problem(size: FitSize, settings: ALSSettings, *, divided: bool) -> Problem:
    """What one process fits: all neurons, or a group of them where the fit is divided."""
    n_neurons = min(size.n_neurons, largest_group(size.n_neurons)) if divided else size.n_neurons
    return problem_of(replace(size, n_neurons=n_neurons), settings)


def held_responses(held: Problem, *, divided: bool) -> int:
    """Bytes of the responses in a process: recorded and normalised ones.

    A part of a divided fit selects its group's from a file.
    """
    return held.responses if divided else 2 * held.responses


def _peak_memory(
    size: FitSize, settings: ALSSettings, *, divided: bool, limit: int | None
) -> tuple[int, bool]:
    """Bytes of a worker at its peak, and whether reduced tokens stay in its memory."""
    held = held_problem(size, settings, divided=divided)
    used = PROCESS + held_responses(held, divided=divided)
    if limit is None or size.stored <= IN_MEMORY * limit:
        used += size.stored
    if limit is not None:
        # What cannot be kept is refused when the fit begins, not by its price.
        limit = max(limit, used + held.least_memory)
    plan = plan_memory(held, limit, used=used)
    return used + held.planned(plan), plan.keep
