"""The cost model: what its counts follow, and how work is shared."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache import TokenShape
from pipeline.experiment import RunSettings
from pipeline.plan.price import price
from pipeline.plan.steps import Plan, Step
from pipeline.workers import workers_of
from stages.baseline.cost import cnn_cost
from stages.baseline.settings import BaselineSettings
from stages.conditions import Condition
from stages.costs import Cost, Portion, side_by_side
from stages.executors.cluster_settings import ClusterSettings
from stages.extract.cost import extraction_cost
from stages.finetune.cost import tuning_cost
from stages.finetune.settings import FinetuneSettings
from stages.stage import Planned, Work

SHAPE = TokenShape(n_blocks=12, grid=(4, 8), n_channels=384, n_registers=4, dtype="float16")
LARGE = 10**10
CONDITION = Condition(recording="r", model="cnn_fullmodel", input_size="66x130")


def test_costs_add_and_memory_does_not():
    one = Cost(phases=(Portion(3.0),), n_bytes=5.0, memory=7.0, shares={"solving": 3.0})
    both = one + one + Cost()
    assert both.core_seconds == pytest.approx(2 * one.core_seconds)
    assert both.n_bytes == 2 * one.n_bytes and both.memory == one.memory


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=20), st.integers(1, 8))
def test_work_side_by_side_keeps_its_bounds(seconds, workers):
    """No schedule beats the mean or the longest; longest first stays within 4/3 of the best."""
    wall = side_by_side([Cost(phases=(Portion(each),)) for each in seconds], workers)
    bound = max(sum(seconds) / workers, *seconds, 0)
    assert bound - 1e-6 <= wall <= sum(seconds) / workers + max(seconds) + 1e-6


def test_a_phase_lasts_as_long_as_its_rounds():
    phase = Portion(60, parts=3)
    assert [phase.seconds(workers) for workers in (1, 2, 3, 9)] == [60, 40, 20, 20]


def test_a_trained_block_costs_three_passes():
    settings = FinetuneSettings()
    frozen, trained = (
        Planned(
            condition=replace(CONDITION, tokens="patch", block=4),
            work=Work(
                tokens=SHAPE, trials=100, neurons=1, blocks=2, tuned_blocks=tuned, epochs=3,
                n_bytes=LARGE,
            ),
        )
        for tuned in (0, 2)
    )  # fmt: skip
    dearer = tuning_cost(trained, settings)
    assert dearer.shares["backbone"] == pytest.approx(
        3 * tuning_cost(frozen, settings).shares["backbone"]
    )
    assert dearer.memory > LARGE > tuning_cost(frozen, settings, memory_limit=LARGE).memory


def test_networks_cost_more_with_more_of_everything():
    settings = BaselineSettings()
    one = Planned(condition=CONDITION, work=Work(trials=100, neurons=50))
    for dearer in (
        replace(one, work=Work(trials=200, neurons=50)),
        replace(one, work=Work(trials=100, neurons=100)),
        replace(one, condition=replace(CONDITION, model="cnn_minimodel")),
    ):
        assert cnn_cost(dearer, settings).core_seconds > cnn_cost(one, settings).core_seconds
    fewer = extraction_cost(SHAPE, n_images=10**5)
    assert extraction_cost(SHAPE, n_images=10**6).core_seconds > fewer.core_seconds
    assert fewer.seconds(16) < fewer.core_seconds / 8


def test_a_price_is_that_of_the_workers_there_will_be():
    work = Work(images=10**6, blocks=12, tokens=SHAPE)
    plan = Plan(steps=[Step(kind="extract", name="cache", state="run", work=work)])
    slurm = ClusterSettings(cores=4, memory=40 * 10**9, jobs=(0, 5))
    here, there, unknown = (
        price(plan, workers_of(run))
        for run in (
            RunSettings(workers=1),
            RunSettings(executor="dask", slurm=slurm),
            RunSettings(executor="dask", scheduler="tcp://10.0.0.1:8786"),
        )
    )
    assert here.seconds == pytest.approx(here.cost.core_seconds)
    assert there.workers.number == 20 and there.workers.task_memory == 7 * 10**9
    assert there.seconds < here.seconds / 15
    assert unknown.seconds is None and "worker," not in unknown.told()
    assert "20 workers" in there.told() and there.document()["workers"] == 20
