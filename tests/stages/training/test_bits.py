"""Trained networks bit for bit: whatever the memory limit and the workers, and again."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import pytest
from support.bits import assert_same_bits, numbers
from support.runs import only_variant
from support.tiny import write_experiment
from support.tuning_runs import tasks

from stages.baseline.stage import Baseline
from stages.executors import LocalExecutor, dask_executor
from stages.finetune.stage import Finetune

BASELINE = """
[baseline]
models = ["cnn_fullmodel", "cnn_minimodel"]
kernels = [5, 3]
channels = [4, 6]
batch_size = 8
epochs = [2, 1]
minimodel = { channels = 5 }
"""


@pytest.fixture(scope="module")
def executors(tmp_path_factory):
    """Ways to compute tasks: two workers train side by side, one of each two in this process."""
    folder = tmp_path_factory.mktemp("work")
    with dask_executor(
        folder=folder, scheduler="local", batch=None, workers=2, memory_limit=None
    ) as cluster:
        yield [
            LocalExecutor(1, folder=folder),
            LocalExecutor(2, folder=folder),
            LocalExecutor(2, folder=folder, memory_limit=8 * 10**9),
            cluster,
        ]


def outcomes(stage, tasks, executor, folder):
    """Numbers of all tasks, and hashes of the weights that they left, by their conditions."""
    found = {}
    for trained in stage.run(tasks, executor, folder, lambda *_: None):
        (task,) = (task for task in tasks if task.condition == trained.condition)
        kept = sha256(task.weights_path.read_bytes()).hexdigest()
        found[trained.condition] = numbers(trained) | {"kept": kept}
    assert len(found) == len(tasks)
    return found


def assert_same_everywhere(stage, tasks, executors, folder):
    """From all executors, and under the smallest limit."""
    least = max(task.needed_memory for task in tasks)
    limited = LocalExecutor(1, folder=folder, memory_limit=least)
    first, *others = (outcomes(stage, tasks, each, folder) for each in (*executors, limited))
    for other in others:
        for condition, each in first.items():
            assert_same_bits(other[condition], each)


@pytest.mark.parametrize("threads", [1, 2])
def test_tunings(tuned_run, run_copy, executors, tmp_path, threads):
    """From the cache and from images, one thread or two."""
    chosen = tasks(tuned_run, run_copy, f"finetune.threads={threads}", "finetune.epochs=2")
    assert {task.start for task in chosen.values()} == {"cache", "images"}
    assert_same_everywhere(Finetune(), [*chosen.values()], executors, tmp_path)


@pytest.mark.parametrize("threads", [1, 2])
def test_cnns(executors, tmp_path, threads):
    """Minimodels start from their fullmodel's first layer, so that comes first."""
    path = write_experiment(tmp_path, shape=(17, 23))
    path.write_text(path.read_text() + BASELINE + f"threads = {threads}\n")
    for task in Baseline().tasks(only_variant(path)):
        seeds = [replace(task, condition=replace(task.condition, seed=seed)) for seed in range(2)]
        assert_same_everywhere(Baseline(), seeds, executors, tmp_path)
