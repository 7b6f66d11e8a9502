"""Parts of a fit: shards of trials, groups of neurons, and sums in one order."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.readouts.als.partition import FAN_IN, neuron_groups, reduction, shards, tree_sum
from stages.tokens.tokens import partitions


@given(st.integers(1, 400))
def test_a_sum_is_added_in_one_order_however_it_is_computed(n):
    class Term(str):
        def __add__(self, other):
            return Term(f"({self!s} {other!s})")

    parts = [Term(i) for i in range(n)]
    level = list(parts)
    while len(level) > 1:
        sums = []
        for some in reduction(level):
            total = some[0]
            for each in some[1:]:
                total = total + each
            sums.append(total)
        level = sums
    assert str(tree_sum(lambda part: part, parts)) == str(level[0])


def test_a_sum_of_nothing_is_refused():
    with pytest.raises(ValueError, match="nothing"):
        tree_sum(len, [])
    assert FAN_IN > 1


@given(st.integers(1, 10**6), st.sampled_from([(4, 8, 384), (1, 1, 768), (8, 16, 768)]))
def test_shards_are_whole_partitions_of_all_trials(n_trials, item):
    found = shards((n_trials, *item))
    borders = {first for first, _ in partitions((n_trials, *item))} | {n_trials}
    assert {border for shard in found for border in shard} <= borders
    assert found[0][0] == 0 and found[-1][1] == n_trials
    assert all(a[1] == b[0] for a, b in pairwise(found))


@given(st.integers(1, 200_000))
def test_groups_are_all_neurons_in_about_equal_parts(n_neurons):
    groups = neuron_groups(n_neurons)
    sizes = [group.stop - group.start for group in groups]
    assert sum(sizes) == n_neurons and groups[0].start == 0 and max(sizes) - min(sizes) <= 1
    assert max(sizes) <= sharding_limit(n_neurons)


def sharding_limit(n_neurons: int) -> int:
    return max(1024, min(4096, n_neurons // 16))
