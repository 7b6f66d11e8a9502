"""Costs of a fit by least squares: what the counts follow."""

from collections import Counter
from dataclasses import replace

import pytest

from stages.readouts.adamw_solver import AdamW
from stages.readouts.als.cost import als_operations
from stages.readouts.als.memory import problem_of
from stages.readouts.als.solver import ALS
from stages.readouts.settings import AdamWSettings, ALSSettings
from stages.readouts.sizes import FitSize

SETTINGS = ALSSettings(max_components=8)
SIZE = FitSize(n_trials=540, n_rows=2, n_columns=4, n_channels=16, n_neurons=3, n_test=60)
SOLVER = ALS()


def fit_cost(size, **options):
    return SOLVER.cost(size, SETTINGS, **options)


def fit_operations(size, **options):
    return als_operations(size, SETTINGS, **options)


def grown(**times):
    """The same problem with more of something."""
    return replace(SIZE, **{name: n * getattr(SIZE, name) for name, n in times.items()})


def test_costs_grow_with_what_they_count():
    cost = fit_cost(SIZE)
    assert cost.core_seconds == pytest.approx(sum(cost.shares.values()))
    assert cost.n_bytes == SIZE.stored == 600 * 8 * 16 * 2
    assert SOLVER.least_memory(SIZE, SETTINGS) > problem_of(SIZE, SETTINGS).always
    few, many = (
        sum(fit_operations(size), start=Counter()) for size in (SIZE, grown(n_trials=3, n_test=3))
    )
    assert many["neuron products"] == pytest.approx(3 * few["neuron products"])
    assert many["bytes read"] == pytest.approx(3 * few["bytes read"])
    assert many["solving"] == few["solving"] and few["bytes spilled"] == 0
    shards, groups = fit_operations(SIZE, kept=False)
    assert (shards + groups)["bytes read"] == pytest.approx(3 * few["bytes read"])
    assert groups["bytes spilled"] == pytest.approx(7 * problem_of(SIZE, SETTINGS).reduced / 1e9)


def test_a_divided_fit_reads_for_every_group_and_is_shared():
    large = grown(n_neurons=2000, n_trials=10)
    whole, divided = fit_cost(large), fit_cost(large, divided=True)
    assert divided.n_bytes > whole.n_bytes and divided.memory < whole.memory
    assert divided.seconds(1) == pytest.approx(divided.core_seconds)
    assert divided.core_seconds / 3 <= divided.seconds(3) < divided.seconds(2)
    assert whole.seconds(3) == whole.seconds(1)


def test_a_limit_lowers_memory_down_to_what_is_needed():
    large = grown(n_trials=4000)
    free = fit_cost(large)
    limited = fit_cost(large, memory_limit=int(0.8 * free.memory))
    least = fit_cost(large, memory_limit=1)
    assert least.memory < limited.memory < 0.8 * free.memory
    assert least.n_bytes > free.n_bytes and least.shares["bytes spilled"] > 0
    assert least.memory == pytest.approx(fit_cost(large, memory_limit=2).memory)


def test_descent_is_dearer_than_least_squares():
    large = grown(n_neurons=500, n_trials=10)
    descent = AdamW().cost(large, AdamWSettings())
    assert descent.core_seconds > 5 * fit_cost(large).core_seconds
