"""What fits of readouts cost: from the sizes of a problem to time, memory and bytes read.

Counts of operations follow from the algorithms. How long a billion of each takes was rounded from
timings of the phases of a few runs; `python -m benchmarks.costs` fits these rates to whole small
runs, and checks what both predict of larger ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from stages.costs import Cost, Phase
from stages.executors.resources import PROCESS
from stages.readouts.adamw import descent_memory
from stages.readouts.als.memory import Problem, least_memory, plan_memory, planned_memory
from stages.readouts.als.partition import largest_group, neuron_groups, shards
from stages.readouts.als.polish import SLOPE_TRIALS
from stages.tokens.random_access import IN_MEMORY

#: Rounds of the alternation that a neuron takes per penalty, on average.
ROUNDS = 4

#: What slope and offset do with a response, in units of what a step of polishing does with it.
SLOPE_LOOKS = 6

#: Copies of all responses: recorded, and normalised.
RESPONSES = 2

#: Seconds of one core for a billion operations of each kind; a fit's start costs its own.
#: Measured on one core of a shared server; other machines may differ by a factor of 2 or so.
#: What is spilled is read from a disk at 1 GB/s; small runs, which spill nothing, cannot tell.
RATES: Mapping[str, float] = {
    "start": 0.1,
    "bytes read": 1.2,
    "bytes spilled": 1.0,
    "token products": 0.008,
    "neuron products": 0.006,
    "responses": 30.0,
    "solving": 0.006,
}


@dataclass(frozen=True, kw_only=True)
class FitSize:
    """One condition's readouts.

    Parameters
    ----------
    problem : Problem
        Sizes of the fit; `n_trials` counts training and validation.
    n_channels : int
        Before they are reduced to components.
    n_test : int
        Test images.
    item_bytes : int
        Bytes of a stored number.
    basis_images : int
        Trials that the components are estimated from, at most.
    steps : int
        Steps of polishing, the first included.
    """

    problem: Problem
    n_channels: int
    n_test: int
    item_bytes: int = 2
    basis_images: int = 2048
    steps: int = 3

    @property
    def places(self) -> int:
        """Tokens of an image."""
        return self.problem.n_rows * self.problem.n_columns

    @property
    def stored(self) -> int:
        """Bytes of all tokens that are read."""
        images = self.problem.n_trials + self.n_test
        return images * self.places * self.n_channels * self.item_bytes


def fit_operations(
    size: FitSize, *, divided: bool = False, kept: bool = True
) -> tuple[Counter[str], Counter[str]]:
    """Operations of fitting one condition with "als", in billions; "start" is one.

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
    p = size.problem
    k, c = p.n_components, size.n_channels
    n_groups = len(neuron_groups(p.n_neurons))
    # A group of a divided fit reads them to solve, and to polish.
    reads = 2 * n_groups if divided else 1
    # Cross products, start, and one for each step of polishing; divided, only the steps.
    spilled = 0 if kept else n_groups * (size.steps + (0 if divided else 2))
    rows = p.n_rows * (p.n_rows + 1) // 2
    columns = p.n_columns * (p.n_columns + 1) // 2
    moments = min(p.n_trials, size.basis_images) * size.places * c**2
    reduced = p.n_trials * size.places * c * k
    products = p.n_trials * rows * (p.n_columns * k) ** 2
    neurons = p.n_trials * p.n_neurons * size.places * k * (1 + 2 * size.steps)
    looks = p.n_trials * size.steps + SLOPE_LOOKS * min(p.n_trials, SLOPE_TRIALS)
    pairs = rows * columns * k * (k + 1) / 2
    solves = p.n_neurons * (p.n_penalties + size.steps) * ROUNDS * (2 * pairs + k**3 / 3)
    # In one process and kept in memory, all of it is one read, and reduced once.
    of_shards = Counter(
        {
            "start": 1.0,
            "bytes read": (2 if divided or not kept else 0) * size.stored,
            "token products": 2 * (moments + products + divided * reduced),
        }
    )
    of_groups = Counter(
        {
            "bytes read": reads * size.stored,
            "bytes spilled": spilled * p.reduced,
            "token products": 2 * reads * reduced,
            "neuron products": 2 * neurons,
            "responses": looks * p.n_neurons,
            "solving": 2 * solves,
        }
    )
    return _billions(of_shards), _billions(of_groups)


def fit_cost(
    size: FitSize,
    *,
    divided: bool = False,
    memory_limit: int | None = None,
    rates: Mapping[str, float] = RATES,
) -> Cost:
    """The cost of one condition with "als"; see `fit_operations`.

    Parameters
    ----------
    memory_limit : int, optional
        Bytes that each worker may use.
    """
    memory, kept = _fit_memory(size, divided=divided, limit=memory_limit)
    of_shards, of_groups = fit_operations(size, divided=divided, kept=kept)
    operations = of_shards + of_groups
    shares = {name: rates[name] * number for name, number in operations.items()}
    phases: tuple[Phase, ...] = (Phase(sum(shares.values())),)
    if divided:
        p = size.problem
        counts = len(shards((p.n_trials, p.n_rows, p.n_columns, size.n_channels)))
        parts = counts, len(neuron_groups(p.n_neurons))
        phases = tuple(
            Phase(sum(rates[name] * number for name, number in each.items()), n)
            for each, n in zip((of_shards, of_groups), parts, strict=True)
        )
    return Cost(phases=phases, n_bytes=operations["bytes read"] * 1e9, memory=memory, shares=shares)


def _fit_memory(size: FitSize, *, divided: bool, limit: int | None) -> tuple[int, bool]:
    """Bytes of a worker at its peak, and whether reduced tokens stay in its memory."""
    p = size.problem
    if divided:
        # A part selects the responses of its group from a file.
        p = replace(p, n_neurons=min(p.n_neurons, largest_group(p.n_neurons)))
    used = PROCESS + (1 if divided else RESPONSES) * 4 * p.n_trials * p.n_neurons
    if limit is None or size.stored <= IN_MEMORY * limit:
        used += size.stored
    if limit is not None:
        # What cannot be kept is refused when the fit begins, not by its price.
        limit = max(limit, used + least_memory(p))
    plan = plan_memory(p, limit, used=used)
    return used + planned_memory(p, plan), plan.keep


def joint_fit_cost(size: FitSize, *, epochs: int, batch_size: int) -> Cost:
    """The cost of one condition with "adamw", if it takes all its epochs."""
    p = size.problem
    numbers = p.n_trials * size.places * size.n_channels
    shares = {
        "neuron products": 6 * numbers * p.n_neurons * epochs / 1e9 * RATES["neuron products"],
        # Forward and backward.
        "responses": 2 * p.n_trials * p.n_neurons * epochs / 1e9 * RATES["responses"],
    }
    grid = p.n_rows, p.n_columns, size.n_channels
    responses = RESPONSES * 4 * p.n_trials * p.n_neurons
    return Cost(
        phases=(Phase(sum(shares.values())),),
        n_bytes=float(size.stored),
        memory=PROCESS + responses + descent_memory(grid, p.n_neurons, batch_size),
        shares=shares,
    )


def _billions(counts: Counter[str]) -> Counter[str]:
    return Counter({n: v if n == "start" else v / 1e9 for n, v in counts.items() if v})
