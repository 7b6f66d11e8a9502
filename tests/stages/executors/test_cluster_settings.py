"""Settings of batch systems, as their jobs' scripts show them, and of workers."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from pydantic import TypeAdapter
from support.tiny import write_experiment

from cache import UserError
from pipeline.experiment import RunSettings, load_experiment
from pipeline.terminal import Terminal
from pipeline.workers import check_run, limit_of, workplace
from stages.executors import ClusterSettings, batch_cluster
from stages.settings import ByteSize
from stages.stage import Crew

JOB = {
    "queue": "short", "account": "v1", "cores": 4, "memory": "16GB", "walltime": "02:30",
    "directives": ("--exclusive",), "prologue": ("module load python",),
}  # fmt: skip


def script(system, **changes):
    with (
        tempfile.TemporaryDirectory() as folder,
        batch_cluster(system, ClusterSettings(**JOB | changes), Path(folder)) as cluster,
    ):
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
    with batch_cluster(
        "slurm", ClusterSettings(**JOB), tmp_path, logs=tmp_path / "jobs"
    ) as cluster:
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
    with place as (executor, _):
        assert executor.workers == 2
        assert 45 * 10**9 < executor.task_memory < 50 * 10**9
    assert "holds 2 of 4 workers" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
