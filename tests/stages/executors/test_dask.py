"""Fits and extraction on real worker processes: the same numbers, whoever computes and dies."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import psutil
import pytest
from support.bits import assert_same_bits, numbers
from support.clusters import hand_started, noise_task, worker_pids
from support.tiny import write_experiment

from cache import UserError, open_cache
from cache.format.metadata import ROOT
from pipeline.cli.main import main
from stages.executors import LocalExecutor, dask_executor
from stages.fit.cost import needed_memory
from stages.fit.distributed import division, fit_divided
from stages.fit.run import fit_condition
from stages.fit.schedule import count_parts, fit_all, most_together
from stages.readouts.als import partition

WORKERS = 4


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Four workers, one of which has a GPU or says so."""
    options = [["--resources", "GPU=1"], *[[]] * (WORKERS - 1)]
    with hand_started(tmp_path_factory.mktemp("cluster"), options) as started:
        yield started


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return noise_task(tmp_path_factory.mktemp("noise"))


@pytest.fixture(scope="module")
def small_groups():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partition, "SMALLEST_GROUP", 16)
        yield


@pytest.fixture(scope="module")
def whole(task, small_groups):
    return fit_condition(task)


def local(folder, workers):
    """As many processes of this machine, below dask."""
    return dask_executor(
        folder=folder, scheduler="local", batch=None, workers=workers, memory_limit=None
    )


@contextlib.contextmanager
def connected(cluster, folder):
    cluster.wait(WORKERS)
    with dask_executor(
        folder=folder, scheduler=cluster.address, batch=None, workers=1, memory_limit=None
    ) as executor:
        assert executor.workers == len(worker_pids()) == WORKERS
        yield executor


def same(fitted, whole):
    """Bit for bit."""
    assert_same_bits(numbers(fitted), numbers(whole))


def fitted_in_parts(task, executor, folder, after_part=lambda number: None):
    done = []

    def progress(number, text):
        assert text.startswith("parts of ")
        done.append(number)
        after_part(sum(done))

    (fitted,) = fit_all([task], executor, folder=folder, progress=progress)
    # Two steps for three shards, one for validation trials, and two for three groups of neurons.
    assert sum(done) == count_parts([task], executor) == 2 * 3 + 1 + 2 * 3
    return fitted


def test_four_workers_give_what_one_process_does(task, whole, cluster, tmp_path):
    with connected(cluster, tmp_path) as executor:
        same(fitted_in_parts(task, executor, tmp_path), whole)


def test_one_worker_gives_the_same(task, whole, tmp_path):
    with local(tmp_path, 1) as executor:
        assert len(worker_pids()) == 1
        same(fit_divided(task, executor, folder=tmp_path, progress=lambda number: None), whole)


def test_processes_of_this_machine_give_the_same(task, whole, tmp_path):
    executor = LocalExecutor(2, folder=tmp_path)
    same(fitted_in_parts(task, executor, tmp_path), whole)


def test_conditions_that_are_divided_are_fitted_side_by_side(task, whole, cluster, tmp_path):
    second = replace(task, condition=replace(task.condition, seed=1))
    running, most, one = 0, [], threading.Lock()

    def counted(*arguments, **options):
        nonlocal running
        with one:
            running += 1
            most.append(running)
        try:
            return fit_divided(*arguments, **options)
        finally:
            with one:
                running -= 1

    with connected(cluster, tmp_path) as executor, pytest.MonkeyPatch.context() as patch:
        patch.setattr("stages.fit.schedule.fit_divided", counted)
        assert most_together([task, second], 4) == 2
        fitted = list(fit_all([task, second], executor, folder=tmp_path))
    assert max(most) == 2 and {each.condition.seed for each in fitted} == {0, 1}
    for each in fitted:
        same(each, whole)


def test_a_part_needs_the_memory_of_its_group_of_neurons(task, small_groups):
    """Jobs that could hold a part, and not the whole, are not refused."""
    neurons = np.arange(64_000)
    responses = np.broadcast_to(task.recording.responses[:, :1], (4640, len(neurons)))
    recording = replace(task.recording, neurons=neurons, responses=responses)
    large = replace(task, recording=recording)
    whole, part = (needed_memory(large, divided=divided) for divided in (False, True))
    assert whole > 2 * responses.nbytes and part < whole / 2
    assert division(large)


def test_divided_conditions_that_nobody_waits_for_are_stopped(task, cluster, tmp_path):
    # The others take seconds more.
    longer = replace(task.settings.als, tolerance=1e-30, max_rounds=1000)
    slow = replace(task, settings=replace(task.settings, als=longer))
    tasks = [
        task,
        *(replace(slow, condition=replace(task.condition, seed=seed)) for seed in (1, 2)),
    ]
    parts = []
    with connected(cluster, tmp_path) as executor:
        fits = fit_all(tasks, executor, folder=tmp_path, progress=lambda *told: parts.append(told))
        next(fits)
        fits.close()
        done = len(parts)
        assert done < count_parts(tasks, executor)
        with pytest.raises(InterruptedError):
            next(executor.map(worker_name, range(1)))
    time.sleep(0.5)
    assert len(parts) == done and not list(threads_named("fit"))


def threads_named(name):
    return (thread for thread in threading.enumerate() if thread.name.startswith(name))


def test_killed_workers_cost_no_result(task, whole, cluster, tmp_path):
    victims = []

    def kill(number):
        if number in (2, 8):
            victims.append(cluster.pids()[-1])
            os.kill(victims[-1], signal.SIGKILL)

    with connected(cluster, tmp_path) as executor:
        same(fitted_in_parts(task, executor, tmp_path, kill), whole)
    assert len(victims) == 2 and not any(psutil.pid_exists(victim) for victim in victims)


def test_two_workers_may_die_at_once_and_again_while_they_come_back(task, whole, tmp_path):
    victims = set()

    def kill_all(wanted):
        until = time.monotonic() + 60
        while len(victims) < wanted and time.monotonic() < until:
            for pid in spawned() - victims:
                os.kill(pid, signal.SIGKILL)
                victims.add(pid)
            time.sleep(0.02)

    def kill(number):
        if number == 2:
            kill_all(4)  # two that compute, and two that are about to

    with local(tmp_path, 2) as executor:
        assert len(worker_pids()) == 2
        same(fitted_in_parts(task, executor, tmp_path, kill), whole)
        assert len(victims) >= 4 and not victims & set(worker_pids())
        victims.clear()
        same(fitted_in_parts(task, executor, tmp_path), whole)


def spawned() -> set[int]:
    """Workers below dask, those that are starting included."""
    found = set()
    for process in psutil.Process().children():
        with contextlib.suppress(psutil.Error):  # it just ended
            if "spawn_main" in " ".join(process.cmdline()):
                found.add(process.pid)
    return found


def worker_name(number: int) -> str:
    from distributed import get_worker

    return str(get_worker().address)


def test_a_gpu_task_waits_for_the_gpu(cluster, tmp_path):
    with connected(cluster, tmp_path) as executor:
        on_gpu = {name for _, name in executor.map(worker_name, range(8), device="cuda")}
        anywhere = {name for _, name in executor.map(worker_name, range(40))}
    assert len(on_gpu) == 1 and len(anywhere) > 1


def test_a_scheduler_that_does_not_answer_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("stages.executors.dask.ANSWER", 0.2)
    nowhere = dask_executor(
        folder=tmp_path, scheduler="tcp://127.0.0.1:9", batch=None, workers=1, memory_limit=None
    )
    with pytest.raises(UserError, match=r"run.scheduler = tcp://127.0.0.1:9 does not ans"), nowhere:
        pass


def test_the_store_of_many_workers_is_that_of_one(cluster, tmp_path, monkeypatch):
    path = write_experiment(tmp_path, n_train=80, n_validation=10)
    small = ["--quiet", "--set=run.memory_limit=1MB"]
    monkeypatch.setattr("stages.extract.task.PROCESS", 1)
    stores = []
    for name, options in {
        "one": [],
        "many": [
            "--set=run.executor=dask",
            f"--set=run.scheduler={cluster.address}",
            "--allow-cluster",
        ],
    }.items():
        stores.append(tmp_path / f"{name}.zarr")
        arguments = [*small, f"--set=cache.path={stores[-1]}", *options]
        assert main(["extract", str(path), *arguments]) == 0
    one, many = (open_cache(str(store)) for store in stores)
    assert one.key == many.key and len(many.shards_done) > 1 and many.complete
    for block in one.blocks:
        for kind in one.kinds:
            np.testing.assert_allclose(
                one.block(block).read(kind, one.image_ids).astype(np.float32),
                many.block(block).read(kind, one.image_ids).astype(np.float32),
                rtol=2e-3,
                atol=2e-3,
            )
    files = [{p.relative_to(s) for s in [store] for p in s.rglob("*")} for store in stores]
    assert files[0] == files[1] and (stores[1] / ROOT).exists()
    assert not list(tmp_path.glob("*.part*")) and not list(tmp_path.glob("runs/.work-*"))


def test_ctrl_c_ends_all_workers(tmp_path):
    path = write_experiment(tmp_path, n_train=40, n_validation=8)
    assert main(["extract", str(path), "--quiet"]) == 0
    command = [
        sys.executable, "-m", "pipeline", "fit", str(path), "--set=run.executor=dask",
        "--set=run.workers=2", "--set=readout.adamw.max_epochs=100000",
        "--set=readout.adamw.patience=100000",
    ]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    until = time.monotonic() + 60
    while not list(tmp_path.glob("runs/.work-*")) or len(busy(process.pid)) < 2:
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.1)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert told.strip().splitlines()[-1].startswith("vitv1: interrupted"), told
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive and not list(tmp_path.glob("runs/.work-*"))


def busy(pid: int) -> list[psutil.Process]:
    """Descendants that have computed for a while."""
    found = psutil.Process(pid).children(recursive=True)
    return [p for p in found if p.is_running() and p.cpu_times().user > 2]
