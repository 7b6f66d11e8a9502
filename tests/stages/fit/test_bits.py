"""Fits bit for bit: whatever the memory limit, the workers, and the threads of this process."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.bits import assert_same_bits, numbers
from support.clusters import noise_task

from stages.executors import LocalExecutor
from stages.fit.distributed import fit_divided
from stages.fit.inputs import TaskSource
from stages.fit.run import fit_condition
from stages.fit.schedule import fit_all
from stages.readouts.als import partition
from stages.readouts.als.memory import plan_memory, problem_of
from stages.readouts.settings import AdamWSettings, ReadoutSettings

#: What every process is said to use before it fits.
USED = 10**9


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    """Two shards of trials; neurons for several batches, and for two groups of a small size."""
    return noise_task(tmp_path_factory.mktemp("noise"), n_images=2600, n_neurons=300)


@pytest.fixture(scope="module")
def whole(task):
    return numbers(fit_condition(task))


@pytest.fixture
def small_groups(monkeypatch):
    monkeypatch.setattr(partition, "SMALLEST_GROUP", 160)


@pytest.fixture
def two_threads():
    """A command's process, which may use as many as there are cores."""
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


@given(spare=st.integers(0, 3 * 10**7))
@example(spare=0)
@example(spare=10**7)
@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_memory_limit_changes_a_bit(task, whole, spare):
    least = problem_of(TaskSource(task).size, task.settings.als).least_memory
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stages.readouts.als.memory.resident_memory", lambda: USED)
        patch.setattr("stages.fit.inputs.IN_MEMORY", 0.0 if spare % 2 else 1.0)
        limited = replace(task, memory_limit=USED + least + spare)
        assert_same_bits(numbers(fit_condition(limited)), whole)


def by(task, executor, folder, *, of=1):
    """Numbers of a fit among so many."""
    tasks = [replace(task, condition=replace(task.condition, seed=seed)) for seed in range(of)]
    fitted = {each.condition.seed: each for each in fit_all(tasks, executor, folder=folder)}
    return numbers(fitted[0])


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("of", [1, 2])
def test_no_number_of_workers_changes_a_bit(task, whole, tmp_path, two_threads, workers, of):
    """One fit is divided between two workers, two are fitted side by side."""
    executor = LocalExecutor(workers, folder=tmp_path)
    assert_same_bits(by(task, executor, tmp_path, of=of), whole)


def test_groups_of_neurons_give_the_same_wherever_they_are(
    task, tmp_path, small_groups, two_threads
):
    assert len(partition.neuron_groups(300)) == 2
    alone = numbers(fit_condition(task))
    assert_same_bits(by(task, LocalExecutor(2, folder=tmp_path), tmp_path), alone)


def test_missing_responses_give_the_same_in_parts(task, tmp_path, small_groups, two_threads):
    """One group misses none: the way is that of all neurons together."""
    responses = task.recording.responses.copy()
    gaps = np.random.default_rng(0).random((len(responses), 100)) < 0.3
    responses[:, :100][gaps] = np.nan
    some = replace(task, recording=replace(task.recording, responses=responses))
    assert TaskSource(some).size.incomplete and not TaskSource(task).size.incomplete
    alone = numbers(fit_condition(some))
    assert_same_bits(by(some, LocalExecutor(2, folder=tmp_path), tmp_path), alone)


@pytest.fixture
def plans(monkeypatch):
    """Plans of memory that were made, in a process that is said to use `USED`."""
    made = []

    def plan(*arguments):
        made.append(plan_memory(*arguments, used=USED))
        return made[-1]

    for module in ("als.fit", "als.distributed.tasks"):
        monkeypatch.setattr(f"stages.readouts.{module}.plan_memory", plan)
    return made


@pytest.mark.parametrize("streamed", [False, True])
def test_a_divided_fit_under_a_limit_gives_the_same(
    task, tmp_path, small_groups, plans, monkeypatch, streamed
):
    """The least that a part can do with: its tokens are reduced again, or read from a file."""
    alone = numbers(fit_condition(task))
    assert all(plan.keep for plan in plans)
    plans.clear()
    monkeypatch.setattr("stages.fit.inputs.IN_MEMORY", 0.0 if streamed else 1.0)
    part = replace(TaskSource(task).size, n_neurons=150)
    limited = replace(task, memory_limit=USED + problem_of(part, task.settings.als).least_memory)
    fitted = fit_divided(
        limited, LocalExecutor(1, folder=tmp_path), folder=tmp_path, progress=lambda number: None
    )
    # Both groups are solved and polished.
    assert [plan.keep for plan in plans if plan.rows_at_once == 1] == [False] * 4
    assert_same_bits(numbers(fitted), alone)


@pytest.mark.parametrize("n_neurons", [258, 301])
def test_odd_sizes_give_the_same_divided_and_whole(tmp_path, monkeypatch, n_neurons):
    """A last batch of one neuron, groups of different sizes, rows that begin anywhere."""
    monkeypatch.setattr(partition, "SMALLEST_GROUP", 129)
    task = noise_task(tmp_path, n_images=2311, n_neurons=n_neurons, n_channels=15)
    executor = LocalExecutor(1, folder=tmp_path)
    divided = fit_divided(task, executor, folder=tmp_path, progress=lambda number: None)
    assert_same_bits(numbers(divided), numbers(fit_condition(task)))


def test_descent_gives_the_same_in_a_worker_and_under_a_limit(task, tmp_path, two_threads):
    small = ReadoutSettings(solver="adamw", adamw=AdamWSettings(max_epochs=2))
    descent = replace(task, settings=small, condition=replace(task.condition, solver="adamw"))
    alone = numbers(fit_condition(descent))
    executor = LocalExecutor(2, folder=tmp_path)
    assert_same_bits(by(descent, executor, tmp_path, of=2), alone)
    assert_same_bits(numbers(fit_condition(replace(descent, memory_limit=10**4))), alone)
