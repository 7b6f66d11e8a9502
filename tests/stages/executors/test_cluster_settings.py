"""Batch systems as their scripts show them, sizes as people write them, tasks on their way."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from support.tiny import write_experiment

from cache import UserError
from pipeline.experiment import RunSettings, load_experiment
from pipeline.terminal import Terminal
from pipeline.workers import check_run, limit_of, workplace
from stages.executors.cluster_settings import ClusterSettings
from stages.executors.dask import batch_cluster
from stages.executors.resources import default_memory_limit, free_memory
from stages.executors.serialize import Shipment, unpack
from stages.readouts.als.partition import FAN_IN, neuron_groups, reduction, shards, tree_sum
from stages.settings import ByteSize
from stages.stage import Crew
from stages.tokens.tokens import partitions

JOB = {
    "queue": "short", "account": "v1", "cores": 4, "memory": "16GB", "walltime": "02:30",
    "directives": ("--exclusive",), "prologue": ("module load python",),
}  # fmt: skip


def script(system, **changes):
    with batch_cluster(system, ClusterSettings(**JOB | changes)) as cluster:
        return cluster.job_script()


def test_a_slurm_job():
    text = script("slurm")
    for line in (
        "#SBATCH -p short", "#SBATCH -A v1", "#SBATCH --cpus-per-task=4", "#SBATCH --mem=15G",
        "#SBATCH -t 02:30:00", "#SBATCH --exclusive", "module load python",
    ):  # fmt: skip
        assert line in text.splitlines(), text
    assert "--nthreads 1" in text and "--nworkers 4" in text and "GPU" not in text


def test_an_lsf_job():
    text = script("lsf", options={"lsf_units": "mb"}, walltime="1-02:30")
    for line in (
        "#BSUB -q short", '#BSUB -P "v1"', "#BSUB -n 4", "#BSUB -M 16000", "#BSUB -W 26:30",
    ):  # fmt: skip
        assert line in text.splitlines(), text


@pytest.mark.parametrize(
    ("walltime", "lifetime"), [("00:01", 45), ("00:04", 180), ("02:30", 8880), ("1-00:00", 86280)]
)
def test_workers_leave_before_their_job_ends(walltime, lifetime):
    for system, options in {"slurm": {}, "lsf": {"lsf_units": "mb"}}.items():
        assert f"--lifetime {lifetime}s" in script(system, walltime=walltime, options=options)


def test_what_jobs_print_is_kept_apart(tmp_path):
    with batch_cluster("slurm", ClusterSettings(**JOB), logs=tmp_path / "jobs") as cluster:
        assert f"#SBATCH -o {tmp_path / 'jobs'}" in cluster.job_script()


def test_jobs_with_too_little_memory_are_refused_before_they_wait():
    run = RunSettings(executor="dask", slurm=ClusterSettings(cores=4, memory=8 * 10**9))
    told = r"run.slurm.memory = 8.0 GB for 4 tasks .* 1.4 GB to a fit, which needs about 2.0 GB"
    with pytest.raises(UserError, match=told):
        limit_of(run).require(2 * 10**9, "a fit", lower="or fit fewer neurons")


def test_a_job_with_a_gpu_computes_one_task_at_a_time():
    text = script("slurm", gpu=True, directives=("--gres=gpu:1",))
    assert "#SBATCH --cpus-per-task=4" in text and "#SBATCH --gres=gpu:1" in text
    assert "--resources GPU=1" in text and "--nworkers" not in text


def test_an_option_that_dask_jobqueue_does_not_know_is_told():
    with pytest.raises(UserError, match=r"\[run.slurm\] options: .*colour"):
        script("slurm", options={"colour": "red"})


@pytest.mark.parametrize(
    ("text", "size"),
    [("4GB", 4 * 10**9), ("512 MiB", 2**29), ("1.5g", 15 * 10**8), ("7", 7), (9, 9)],
)
def test_sizes(text, size):
    assert TypeAdapter(ByteSize).validate_python(text) == size


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("run.memory_limit=4 apples", r"run.memory_limit = '4 apples': .*\"4GB\""),
        ("run.memory_limit=-1", "run.memory_limit = -1"),
        ("run.scheduler=host:1", "run.scheduler = 'host:1'"),
        ("run.slurm.walltime=soon", "run.slurm.walltime = 'soon'"),
        ("run.slurm.core=4", 'did you mean "cores"'),
    ],
)
def test_settings_are_refused_in_one_line(tmp_path, option, message):
    with pytest.raises(UserError, match=message):
        load_experiment(write_experiment(tmp_path), [option])


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ({"scheduler": "local"}, "run.scheduler is for run.executor"),
        ({"executor": "dask", "slurm": {}, "lsf": {}}, "run.slurm and run.lsf exclude"),
    ],
)
def test_contradictions_are_refused(run, message):
    with pytest.raises(UserError, match=message):
        check_run(RunSettings(**run))


def test_no_more_workers_than_the_memory_holds(tmp_path, capsys):
    run = RunSettings(workers=4, memory_limit=100 * 10**9)
    place = workplace(run, tmp_path, Crew(workers=8, needed=lambda: 45 * 10**9), Terminal())
    with place as found:
        assert found.executor.workers == 2
        assert 45 * 10**9 < found.executor.task_memory < 50 * 10**9
    assert "holds 2 of 4 workers" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_half_of_what_is_free():
    assert 0 < default_memory_limit() < free_memory()


@dataclass(frozen=True)
class Task:
    name: str
    large: np.ndarray
    small: np.ndarray


def test_arrays_stay_behind_and_arrive(tmp_path):
    large, small = np.arange(10**5, dtype=np.float32).reshape(2, -1), np.arange(3)
    shipment = Shipment(tmp_path / "files")
    packed = [shipment.pack(Task(name, large, small)) for name in "ab"]
    assert max(map(len, packed)) < 2000 and len(list((tmp_path / "files").iterdir())) == 1
    for name, content in zip("ab", packed, strict=True):
        task = unpack(content)
        assert task.name == name and isinstance(task.large, np.memmap)
        np.testing.assert_array_equal(task.large, large)
        np.testing.assert_array_equal(task.small, small)
    task.large[0, 0] = 7  # its own copy
    assert unpack(packed[0]).large[0, 0] == 0
    assert pickle.loads(pickle.dumps(np.asarray(task.large)))[0, 0] == 7


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
    assert str(tree_sum(iter(parts))) == str(level[0])


def test_a_sum_of_nothing_is_refused():
    with pytest.raises(ValueError, match="nothing"):
        tree_sum(iter(()))
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
