"""Runs whose workers are jobs: of a real SLURM, and of a `bsub` that runs what it is given."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import dask
import numpy as np
import pandas as pd
import psutil
import pytest
from support.clusters import listening, noise_task, refused_without_certificate
from support.slurm import all_ended, jobs, slurm
from support.tiny import write_experiment

from pipeline.cli.main import main
from stages.executors.cluster_settings import ClusterSettings
from stages.executors.dask import dask_executor
from stages.fit.distributed import fit_divided
from stages.fit.run import fit_condition
from stages.readouts.als import partition

#: Loopback: machines that tests run on need not know their own name.
OPTIONS = {"scheduler_options": {"host": "127.0.0.1"}}

#: Takes a job's script from its standard input and runs it, as LSF's does in time.
BSUB = """#!{python}
import subprocess, sys
from pathlib import Path
script = sys.stdin.read()
assert "#BSUB -W 00:30" in script and "#BSUB -n 2" in script, script
number = len(list(Path("{home}").glob("*.pid")))
job = subprocess.Popen(["bash", "-c", script], stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, start_new_session=True)
Path("{home}", f"{{number}}.pid").write_text(str(job.pid))
print(f"Job <{{number}}> is submitted to queue <normal>.")
"""
BKILL = """#!{python}
import os, signal, sys
from pathlib import Path
try:
    os.killpg(int(Path("{home}", sys.argv[1] + ".pid").read_text()), signal.SIGTERM)
except ProcessLookupError:
    pass
"""


@pytest.fixture(scope="module")
def controller(tmp_path_factory):
    with slurm(tmp_path_factory.mktemp("slurm")):
        yield


@pytest.fixture
def lsf(tmp_path, monkeypatch):
    """The folder of the numbers of its jobs' processes."""
    home = tmp_path / "lsf"
    home.mkdir()
    for name, text in {"bsub": BSUB, "bkill": BKILL}.items():
        (home / name).write_text(text.format(python=sys.executable, home=home))
        (home / name).chmod(0o700)
    monkeypatch.setenv("PATH", f"{home}{os.pathsep}{os.environ['PATH']}")
    yield home
    jobs = [int(file.read_text()) for file in home.glob("*.pid")]
    left = [psutil.Process(job) for job in jobs if psutil.pid_exists(job)]
    # They were told to end, as by the real bkill; a process takes a moment to do so.
    assert not psutil.wait_procs(left, timeout=10)[1], "a job outlived its run"


#: Two workers: of one job, or of two. Each imports all that computes, which takes the time.
CUT = {"lsf": {"cores": 2, "jobs": "[0, 1]"}, "slurm": {"cores": 1, "jobs": "[0, 2]"}}


def arguments(system, output):
    """Settings of a run on jobs."""
    units = ', lsf_units = "mb"' * (system == "lsf")
    table = CUT[system] | {
        "memory": '"8GB"',
        "walltime": '"00:30"',
        "options": f'{{scheduler_options = {{host = "127.0.0.1"}}{units}}}',
    }
    settings = {"run.executor": "dask", "run.output": str(output)}
    settings |= {f"run.{system}.{name}": value for name, value in table.items()}
    return ["--allow-cluster", *(f"--set={name}={value}" for name, value in settings.items())]


def table(output: Path) -> pd.DataFrame:
    return pd.read_parquet(output / "results/neurons.parquet")


def same_as_here(path, system, tmp_path, monkeypatch):
    """A run on jobs gives the tables of a run of this process, and leaves nothing lying about."""
    assert main(["run", str(path), "--quiet", f"--set=run.output={tmp_path / 'here'}"]) == 0
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())
    assert main(["run", str(path), "--quiet", *arguments(system, tmp_path / "there")]) == 0
    assert set(tmp_path.iterdir()) - before == {tmp_path / "there"}
    assert not list((tmp_path / "there").glob(".work-*"))
    here, there = table(tmp_path / "here"), table(tmp_path / "there")
    pd.testing.assert_frame_equal(
        here.drop(columns="cache_key"), there.drop(columns="cache_key"), rtol=0, atol=1e-5
    )
    assert set(here["cache_key"]) == set(there["cache_key"])


def test_a_run_on_slurm_is_the_run_of_one_process(controller, tmp_path, monkeypatch, no_figures):
    path = write_experiment(tmp_path, n_train=60, n_validation=10)
    same_as_here(path, "slurm", tmp_path, monkeypatch)
    assert list((tmp_path / "there/jobs").glob("*.out")) and all_ended()


def test_a_run_on_lsf_is_the_run_of_one_process(lsf, tmp_path, monkeypatch, no_figures):
    path = write_experiment(tmp_path, n_train=60, n_validation=10)
    same_as_here(path, "lsf", tmp_path, monkeypatch)
    assert list(lsf.glob("*.pid"))


def test_workers_in_jobs_refuse_the_uninvited(lsf, tmp_path):
    settings = ClusterSettings(
        cores=2, walltime="00:30", jobs=(1, 1), options=OPTIONS | {"lsf_units": "mb"}
    )
    with dask_executor(
        folder=tmp_path, scheduler=None, batch=("lsf", settings), workers=1, memory_limit=None,
        logs=tmp_path / "jobs",
    ) as executor:  # fmt: skip
        assert list(executor.map(abs, [-1])) == [(0, 1)]
        executor.client.wait_for_workers(2, timeout=60)
        workers = executor.client.scheduler_info(n_workers=-1)["workers"]
        closed = {*workers, *(worker["nanny"] for worker in workers.values())}
        for address in closed:
            refused_without_certificate(address)
        (job,) = (psutil.Process(int(file.read_text())) for file in lsf.glob("*.pid"))
        ports = {int(address.rsplit(":", 1)[1]) for address in closed}
        others = [host for host, port in listening(*tree(job)) if port not in ports]
        assert len(ports) == 4 and set(others) == {"127.0.0.1"}


def tree(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def test_jobs_that_are_cancelled_cost_no_result(controller, tmp_path, monkeypatch):
    monkeypatch.setattr(partition, "SMALLEST_GROUP", 16)
    task = noise_task(tmp_path)
    whole = fit_condition(task)
    cancelled = []

    def cancel(number):
        if not cancelled:
            cancelled.append(jobs()[0])
            subprocess.run(["scancel", "--signal=KILL", "--full", cancelled[0]], check=True)

    settings = ClusterSettings(memory=4 * 10**9, walltime="00:30", jobs=(1, 2), options=OPTIONS)
    with dask_executor(
        folder=tmp_path, scheduler=None, batch=("slurm", settings), workers=1, memory_limit=None,
        logs=tmp_path / "jobs",
    ) as executor:  # fmt: skip
        fitted = fit_divided(task, executor, folder=tmp_path / "parts", progress=cancel)
    assert cancelled
    np.testing.assert_allclose(fitted.columns["feve"], whole.columns["feve"], atol=1e-5)


def test_a_job_without_work_waits_for_the_next_step(controller, tmp_path):
    settings = ClusterSettings(memory=2 * 10**9, walltime="00:30", jobs=(0, 1), options=OPTIONS)
    with dask_executor(
        folder=tmp_path, scheduler=None, batch=("slurm", settings), workers=1, memory_limit=None,
        logs=tmp_path / "jobs",
    ) as executor:  # fmt: skip
        assert list(executor.map(abs, [-1])) == [(0, 1)]
        time.sleep(6)  # dask's own patience is 3 seconds
        assert list(executor.map(abs, [-1])) == [(0, 1)]
    assert len(list((tmp_path / "jobs").glob("*.out"))) == 1 and all_ended()


@dataclass(frozen=True)
class Count:
    """Counts to ten in a file, a number every half second, and goes on where it was left."""

    file: Path


def count(task: Count) -> int:
    number = int(task.file.read_text()) if task.file.exists() else 0
    while number < 10:
        time.sleep(0.5)
        number += 1
        task.file.write_text(str(number))
    return number


def test_a_task_may_take_longer_than_its_jobs(controller, tmp_path, monkeypatch):
    """A worker that leaves in time has failed nothing, however often that happens."""
    monkeypatch.setattr(ClusterSettings, "lifetime", 4)
    tests = Path(__file__).parents[2]
    prologue = (f"export PYTHONPATH={tests.parent}:{tests}",)
    settings = ClusterSettings(
        memory=2 * 10**9, walltime="00:30", jobs=(0, 1), prologue=prologue, options=OPTIONS
    )
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        dask_executor(
            folder=tmp_path, scheduler=None, batch=("slurm", settings), workers=1,
            memory_limit=None, logs=tmp_path / "jobs",
        ) as executor,
    ):  # fmt: skip
        assert list(executor.map(count, [Count(tmp_path / "count")])) == [(0, 10)]
    assert len(list((tmp_path / "jobs").glob("*.out"))) > 1
