"""Sizes of a fit, and its cost and memory as the stage tells them."""

from dataclasses import replace

import pytest
from support.clusters import noise_task

from cache import TokenShape
from stages.fit.cost import fit_cost, needed_memory, planned_size
from stages.fit.inputs import TaskSource, cached_tokens, trials_of
from stages.readouts.settings import AdamWSettings, ReadoutSettings
from stages.readouts.solvers import SOLVERS

SHAPE = TokenShape(n_blocks=1, grid=(2, 4), n_channels=16, n_registers=0, dtype="float16")


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return noise_task(tmp_path_factory.mktemp("noise"), n_images=600, n_neurons=3)


def test_the_sizes_of_a_task_are_those_that_were_planned(task):
    size = TaskSource(task).size
    told = {"n_trials": 540, "n_test": 60, "n_neurons": 3}
    assert size == planned_size(task.condition, SHAPE, **told)
    assert size.stored == cached_tokens(task, trials_of(task))[0].stored_bytes
    assert 2 * size.responses == 2 * task.recording.responses.nbytes
    joint = replace(task.condition, tokens="cls", blocks="0+1")
    joined = planned_size(joint, SHAPE, **told)
    assert (joined.n_rows, joined.n_columns, joined.n_channels) == (1, 1, 32)


@pytest.mark.parametrize("solver", sorted(SOLVERS))
def test_a_fit_needs_its_responses_and_more(task, solver):
    chosen = replace(task, settings=ReadoutSettings(solver=solver))
    assert needed_memory(chosen) > 2 * task.recording.responses.nbytes


def test_a_fit_is_priced_as_divided_where_it_would_be(task):
    large = replace(TaskSource(task).size, n_neurons=3000, n_trials=5000)

    def cost(**options):
        return fit_cost(large, ReadoutSettings(), **{"n_fits": 1, "workers": 4} | options)

    assert len(cost().phases) == 2 and len(cost(n_fits=4).phases) == 1
    assert len(cost(n_fits=4, memory_limit=10**8).phases) == 2
    assert len(cost(workers=1).phases) == len(cost(workers=None).phases) == 1
    descent = ReadoutSettings(solver="adamw", adamw=AdamWSettings(max_epochs=3))
    assert len(fit_cost(large, descent, n_fits=1, workers=4).phases) == 1
