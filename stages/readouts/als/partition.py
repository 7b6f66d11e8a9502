"""Partition of a fit into shards, groups and batches, and the order in which parts are summed.

All follow from the data's shape alone: however many workers there are, wherever they are, and
whatever memory they have, the same numbers are added in the same order. A matrix product of other
sizes is rounded differently, so no size may follow from anything else.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import reduce
from itertools import pairwise
from typing import TypeVar

from stages.tokens.tokens import partitions

#: Trials of a shard at least, unless there are fewer: its sums are as large as everybody's, and
#: must be worth their transport.
SHARD_TRIALS = 1024

#: Sums that are added at a time.
FAN_IN = 8

#: Neurons that are fitted together: each group reads the tokens again.
SMALLEST_GROUP = 1024
LARGEST_GROUP = 4096
GROUPS = 16

#: Neurons of a group that are solved together at most: more are hardly faster and take more memory.
NEURON_BATCH = 128

#: Components on which rows and columns are found: space needs fewer than the channels do.
SPACE_COMPONENTS = 64

_S = TypeVar("_S")
_T = TypeVar("_T")


def shards(shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """First and last trial of the parts that may be summed apart: whole partitions."""
    found: list[tuple[int, int]] = []
    first = 0
    for _, last in partitions(shape):
        if last - first >= SHARD_TRIALS or last == shape[0]:
            found.append((first, last))
            first = last
    return found


def largest_group(n_neurons: int) -> int:
    """Neurons that are fitted together at most."""
    return min(LARGEST_GROUP, max(SMALLEST_GROUP, n_neurons // GROUPS))


def neuron_groups(n_neurons: int) -> list[slice]:
    """The neurons that are fitted together, in groups of about the same size."""
    number = -(-n_neurons // largest_group(n_neurons))
    borders = [n_neurons * i // number for i in range(number + 1)]
    return [slice(*pair) for pair in pairwise(borders)]


def neuron_batches(n_neurons: int) -> list[slice]:
    """The neurons of a group that are solved together."""
    firsts = range(0, n_neurons, NEURON_BATCH)
    return [slice(first, min(n_neurons, first + NEURON_BATCH)) for first in firsts]


def reduction(parts: Sequence[_T]) -> list[Sequence[_T]]:
    """What is added next: sums of neighbours, again and again until one is left."""
    return [parts[first : first + FAN_IN] for first in range(0, len(parts), FAN_IN)]


def tree_sum(compute: Callable[[_T], _S], parts: Sequence[_T]) -> _S:
    """What is computed of every part, added in the order of `reduction`; few are held at a time.

    Raises
    ------
    ValueError
        There are no parts.
    """
    if not parts:
        raise ValueError("nothing to sum")
    if len(parts) == 1:
        return compute(parts[0])
    step = 1
    while step * FAN_IN < len(parts):
        step *= FAN_IN
    branches = (parts[first : first + step] for first in range(0, len(parts), step))
    total: _S = reduce(operator.add, (tree_sum(compute, branch) for branch in branches))
    return total
