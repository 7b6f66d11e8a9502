"""Partition of a fit into shards and groups, and the order in which parts are summed.

Both follow from the data's shape alone: however many workers there are, and wherever they are, the
same numbers are added in the same order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, Protocol, TypeVar

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


class Summable(Protocol):
    """Anything that has a sum."""

    def __add__(self, other: Any, /) -> Any:
        """Their sum."""


_S = TypeVar("_S", bound=Summable)
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


def reduction(parts: Sequence[_T]) -> list[Sequence[_T]]:
    """What is added next: sums of neighbours, again and again until one is left."""
    return [parts[first : first + FAN_IN] for first in range(0, len(parts), FAN_IN)]


def tree_sum(parts: Iterable[_S]) -> _S:
    """The sum of all parts in the order of `reduction`, holding few of them at a time.

    Raises
    ------
    ValueError
        There are none.
    """
    sums: list[_S | None] = []
    counts: list[int] = []
    for part in parts:
        carried, level = part, 0
        while True:
            if level == len(sums):
                sums.append(None)
                counts.append(0)
            before = sums[level]
            total = carried if before is None else before + carried
            counts[level] += 1
            if counts[level] < FAN_IN:
                sums[level] = total
                break
            sums[level], counts[level] = None, 0
            carried, level = total, level + 1
    left = [each for each in reversed(sums) if each is not None]
    if not left:
        raise ValueError("nothing to sum")
    # What is left of lower levels comes after all of the higher ones, and is added to itself first.
    total = left.pop()
    while left:
        total = left.pop() + total
    return total
