"""What work costs: from the sizes of a problem to time, memory and bytes read.

Counts of operations follow from the algorithms; how long a billion of each takes was measured, by
fitting small runs (`python -m benchmarks.scale` does it again, and checks the prediction of
larger ones).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cache.layout import TokenShape
from stages.machine import PROCESS
from stages.solvers.memory import Problem, least_memory
from stages.solvers.sharding import largest_group, neuron_groups

#: Rounds of the alternation that a neuron takes per penalty, on average.
ROUNDS = 4

#: Seconds of one core for a billion operations of each kind; a fit's start costs its own.
#: Measured on one core of a shared server; other machines may differ by a factor of 2 or so.
#: What is spilled is read from a disk at 1 GB/s; small runs, which spill nothing, cannot tell.
FIT_RATES: Mapping[str, float] = {
    "start": 0.26,
    "bytes read": 1.0,
    "bytes spilled": 1.0,
    "token products": 0.016,
    "neuron products": 0.017,
    "solving": 0.014,
}

#: Floating-point operations per second of one core in a ViT's forward pass, float32.
FORWARD = 75e9


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


@dataclass(frozen=True)
class Cost:
    """What some work takes.

    Parameters
    ----------
    core_seconds : float
        On one core as fast as that of the measured rates.
    n_bytes : float
        Bytes of tokens read.
    memory : float
        Bytes of one worker at its peak, at most.
    shares : mapping
        Core seconds by kind of operation.
    """

    core_seconds: float = 0.0
    n_bytes: float = 0.0
    memory: float = 0.0
    shares: Mapping[str, float] = field(default_factory=dict)

    def __add__(self, other: Cost) -> Cost:
        """Both, one after the other."""
        names = self.shares.keys() | other.shares.keys()
        return Cost(
            core_seconds=self.core_seconds + other.core_seconds,
            n_bytes=self.n_bytes + other.n_bytes,
            memory=max(self.memory, other.memory),
            shares={n: self.shares.get(n, 0) + other.shares.get(n, 0) for n in sorted(names)},
        )


def fit_operations(size: FitSize, *, divided: bool = False, kept: bool = True) -> dict[str, float]:
    """Operations of fitting one condition with "als", in billions; "start" is one.

    Parameters
    ----------
    divided : bool
        In parts: each group of neurons reads the tokens for itself.
    kept : bool
        Reduced tokens stay in memory; where they do not, a disk holds them from pass to pass.
    """
    p = size.problem
    places, k, c = p.n_rows * p.n_columns, p.n_components, size.n_channels
    groups = len(neuron_groups(p.n_neurons))
    # A group of a divided fit reads them to solve, and to polish.
    reads = 2 * groups if divided else 1
    # Besides, moments and products of the tokens; in memory, all of it is one read.
    of_tokens = reads + (2 if divided else not kept)
    # Cross products, start, and one for each step of polishing; divided, only the steps.
    spilled = 0 if kept else groups * (size.steps + (0 if divided else 2))
    rows = p.n_rows * (p.n_rows + 1) // 2
    columns = p.n_columns * (p.n_columns + 1) // 2
    moments = min(p.n_trials, size.basis_images) * places * c**2
    reduced = (reads + bool(divided)) * p.n_trials * places * c * k
    products = p.n_trials * rows * (p.n_columns * k) ** 2
    neurons = p.n_trials * p.n_neurons * places * k * (1 + 2 * size.steps)
    pairs = rows * columns * k * (k + 1) / 2
    solves = p.n_neurons * (p.n_penalties + size.steps) * ROUNDS * (2 * pairs + k**3 / 3)
    n_bytes = (p.n_trials + size.n_test) * places * c * size.item_bytes
    return {
        "start": 1.0,
        "bytes read": of_tokens * n_bytes / 1e9,
        "bytes spilled": spilled * p.reduced / 1e9,
        "token products": 2 * (moments + reduced + products) / 1e9,
        "neuron products": 2 * neurons / 1e9,
        "solving": 2 * solves / 1e9,
    }


def fit_cost(
    size: FitSize,
    *,
    divided: bool = False,
    kept: bool = True,
    rates: Mapping[str, float] = FIT_RATES,
) -> Cost:
    """The cost of one condition; see `fit_operations`."""
    operations = fit_operations(size, divided=divided, kept=kept)
    shares = {name: rates[name] * number for name, number in operations.items()}
    p = size.problem
    # As recorded and normalised; a part of a divided fit holds those of its group.
    n_neurons = min(p.n_neurons, largest_group(p.n_neurons)) if divided else p.n_neurons
    responses = 8 * p.n_trials * n_neurons
    held = p.reduced + p.n_trials * p.n_rows * p.n_columns * size.n_channels * size.item_bytes
    return Cost(
        core_seconds=sum(shares.values()),
        n_bytes=operations["bytes read"] * 1e9,
        memory=PROCESS + responses + least_memory(p) + (held if kept else 0),
        shares=shares,
    )


def forward_operations(tokens: TokenShape) -> float:
    """Floating-point operations of one image through one block."""
    n_tokens = tokens.grid[0] * tokens.grid[1] + 1 + tokens.n_registers
    width = tokens.n_channels
    return n_tokens * (24.0 * width**2 + 4.0 * n_tokens * width)


def forward_cost(tokens: TokenShape, *, images: float, blocks: float, trained: float = 0) -> Cost:
    """The cost of passes through a ViT on cores; a GPU takes a small part of it.

    Parameters
    ----------
    images : float
        Images that pass, times epochs.
    blocks : float
        Blocks that each passes.
    trained : float
        Blocks that it passes back through, too, at twice the cost.
    """
    seconds = images * (blocks + 2 * trained) * forward_operations(tokens) / FORWARD
    return Cost(core_seconds=seconds, memory=2 * PROCESS, shares={"backbone": seconds})


def joint_fit_cost(size: FitSize, *, epochs: int) -> Cost:
    """The cost of one condition with "adamw", if it takes all its epochs."""
    p = size.problem
    numbers = p.n_trials * p.n_rows * p.n_columns * size.n_channels
    n_bytes = float(numbers * size.item_bytes)
    seconds = 6 * numbers * p.n_neurons * epochs / 1e9 * FIT_RATES["neuron products"]
    responses = 8 * p.n_trials * p.n_neurons
    return Cost(
        core_seconds=seconds,
        n_bytes=n_bytes,
        memory=PROCESS + responses + 2 * n_bytes,
        shares={"neuron products": seconds},
    )
