"""The cost model: what its counts follow."""

from dataclasses import replace

import pytest
from clusters import noise_task

from cache.layout import TokenShape
from stages.costs import Cost, FitSize, fit_cost, fit_operations, forward_cost
from stages.fit_inputs import cached_tokens, needed_memory, problem_of, trials_of


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return noise_task(tmp_path_factory.mktemp("noise"), n_images=600, n_neurons=3)


def test_costs_grow_with_what_they_count(task):
    problem = problem_of(task)
    size = FitSize(problem=problem, n_channels=16, n_test=60)
    cost = fit_cost(size)
    assert cost.core_seconds == pytest.approx(sum(cost.shares.values()))
    assert cost.n_bytes == cached_tokens(task, trials_of(task))[0].stored_bytes
    assert needed_memory(task) > problem.always
    more = FitSize(
        problem=replace(problem, n_trials=8 * problem.n_trials), n_channels=16, n_test=8 * 60
    )
    few, many = fit_operations(size), fit_operations(more)
    assert many["neuron products"] == pytest.approx(8 * few["neuron products"])
    assert many["bytes read"] == pytest.approx(8 * few["bytes read"])
    assert many["solving"] == few["solving"]
    streamed = fit_operations(size, kept=False)
    assert streamed["bytes read"] == pytest.approx(2 * few["bytes read"])
    assert few["bytes spilled"] == 0
    assert streamed["bytes spilled"] == pytest.approx(5 * problem.reduced / 1e9)


def test_costs_add_and_memory_does_not(task):
    one = fit_cost(FitSize(problem=problem_of(task), n_channels=16, n_test=60))
    both = one + one + Cost()
    assert both.core_seconds == pytest.approx(2 * one.core_seconds)
    assert both.n_bytes == 2 * one.n_bytes and both.memory == one.memory


def test_a_trained_block_costs_three_passes():
    shape = TokenShape(n_blocks=12, grid=(4, 8), n_channels=384, n_registers=4, dtype="float16")
    once = forward_cost(shape, images=100, blocks=2)
    assert forward_cost(shape, images=100, blocks=2, trained=2).core_seconds == pytest.approx(
        3 * once.core_seconds
    )
