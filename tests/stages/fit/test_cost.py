"""Sizes of a fit, and its cost and memory as the stage tells them."""

from dataclasses import replace

import pytest
from support.clusters import noise_task

from cache import TokenShape
from pipeline.experiment import Experiment
from stages.fit.cost import fit_cost, needed_memory, planned_memory, planned_size
from stages.fit.inputs import TaskSource, cached_tokens, trials_of
from stages.readouts.settings import ReadoutSettings
from stages.readouts.solvers import SOLVERS
from stages.stage import Planned, Work

SHAPE = TokenShape(n_blocks=2, grid=(2, 4), n_channels=16, n_registers=0, dtype="float16")


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return noise_task(tmp_path_factory.mktemp("noise"), n_images=600, n_neurons=3)


def planned(task, **work):
    told = {"trials": 540, "test_images": 60, "neurons": 3, "tokens": SHAPE} | work
    return Planned(condition=task.condition, work=Work(**told))


def test_the_sizes_of_a_task_are_those_that_were_planned(task):
    size = TaskSource(task).size
    assert size == planned_size(planned(task))
    assert size.stored == cached_tokens(task, trials_of(task))[0].stored_bytes
    assert size.responses == task.recording.responses.nbytes
    joint = replace(task, condition=replace(task.condition, tokens="cls", blocks="0+1"))
    joined = planned_size(planned(joint))
    assert (joined.n_rows, joined.n_columns, joined.n_channels) == (1, 1, 32)


@pytest.mark.parametrize("solver", sorted(SOLVERS))
def test_a_fit_needs_its_responses_and_more(task, solver):
    chosen = replace(
        task,
        condition=replace(task.condition, solver=solver),
        settings=ReadoutSettings(solver=solver),
    )
    needed = needed_memory(chosen)
    assert needed > 2 * task.recording.responses.nbytes
    # The solver is the condition's: fine-tuning may start from another than the experiment's.
    assert planned_memory(planned(chosen), Experiment()) == needed


def test_a_fit_is_priced_as_divided_where_it_would_be(task):
    large = planned_size(planned(task, trials=5000, neurons=3000))

    def phases(solver="als", n_fits=1, workers=4, memory_limit=None):
        settings = ReadoutSettings(solver=solver)
        told = {"n_fits": n_fits, "workers": workers, "memory_limit": memory_limit}
        return len(fit_cost(large, settings, **told).phases)

    assert phases() == 2 and phases(n_fits=4) == 1
    assert phases(n_fits=4, memory_limit=10**8) == 2
    assert phases(workers=1) == phases(workers=None) == 1
    assert phases("adamw") == 1
