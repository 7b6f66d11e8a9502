"""Workers that stop answering, and workers whose parent was killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from support.imports import ROOT

from stages.executors import LocalExecutor, dask_executor
from stages.executors.life import Patience, watched

HASTY = Patience(look=1.0, named=5.0, replaced=9.0)


@dataclass(frozen=True)
class Work:
    """A task that stops its process, once; `device` is what an executor gives it."""

    folder: Path
    number: int
    device: str = "cpu"


def work(task: Work) -> int:
    stopped = task.folder / "stopped"
    if task.number == 1 and not stopped.exists():
        stopped.write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGSTOP)
    return 10 * task.number


@contextlib.contextmanager
def on_cores(folder, note):
    yield LocalExecutor(2, folder=folder, note=note, patience=HASTY)


@contextlib.contextmanager
def on_devices(folder, note):
    yield LocalExecutor(2, folder=folder, devices=("gpu0", "gpu1"), note=note, patience=HASTY)


def on_dask(folder, note):
    return dask_executor(
        folder=folder, scheduler="local", batch=None, workers=2, memory_limit=None,
        note=note, patience=HASTY,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("workers", "device"), [(on_cores, "cpu"), (on_devices, "gpu0"), (on_dask, "cpu")]
)
def test_a_worker_that_does_not_answer_is_named_and_replaced(tmp_path, workers, device):
    told = []
    with workers(tmp_path / "work", told.append) as executor:
        tasks = [Work(tmp_path, number) for number in range(4)]
        assert dict(executor.map(work, tasks, device=device)) == {n: 10 * n for n in range(4)}
    stopped = int((tmp_path / "stopped").read_text())
    assert not psutil.pid_exists(stopped)
    lines = [line for line in told if workers is on_dask or f"worker {stopped} " in line]
    assert "has not answered for 5 s: after 9 s it is replaced" in lines[0]


def crunch(task: Work) -> int:
    """Compute as a long task does, with the processor at work in a library."""
    import torch

    (task.folder / str(os.getpid())).touch()
    square = torch.eye(500)
    while True:
        square = torch.linalg.svd(square @ square)[0]


@dataclass(frozen=True)
class Visit:
    """Seconds of computation."""

    seconds: float


def compute_for(visit: Visit) -> None:
    import torch

    square, until = torch.eye(500), time.monotonic() + visit.seconds
    while time.monotonic() < until:
        square = torch.linalg.svd(square @ square)[0]


def test_a_worker_that_computes_for_long_answers(tmp_path):
    told, patience = [], Patience(look=0.5, named=6.0, replaced=7.0)
    executor = LocalExecutor(2, folder=tmp_path / "work", note=told.append, patience=patience)
    tasks = [Visit(8.0), Visit(0.0)]
    assert sorted(executor.map(compute_for, tasks)) == [(0, None), (1, None)] and told == []


PARENT = """
import sys
from pathlib import Path
from test_life import Work, crunch, on_cores, on_devices, on_dask
folder = Path(sys.argv[1])
with globals()[sys.argv[2]](folder / "work", print) as executor:
    list(executor.map(crunch, [Work(folder, n) for n in range(2)], device=sys.argv[3]))
"""


@pytest.mark.parametrize(
    ("workers", "device"), [("on_cores", "cpu"), ("on_devices", "gpu0"), ("on_dask", "cpu")]
)
def test_workers_end_when_their_parent_is_killed(tmp_path, workers, device):
    places = os.pathsep.join(map(str, (Path(__file__).parent, ROOT, ROOT / "tests")))
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, tmp_path, workers, device],
        env=os.environ | {"PYTHONPATH": places},
    )
    until = time.monotonic() + 120
    while len(busy := [int(path.name) for path in tmp_path.glob("[0-9]*")]) < 2:
        assert parent.poll() is None and time.monotonic() < until
        time.sleep(0.1)
    processes = psutil.Process(parent.pid).children(recursive=True)
    assert set(busy) <= {process.pid for process in processes}
    parent.kill()
    parent.wait()
    # Two seconds where cores are free.
    _, left = psutil.wait_procs(processes, timeout=60)
    assert left == []


def test_a_parent_that_was_suspended_does_not_blame_its_workers():
    """Only looks count: between two of them any time may pass."""
    told, looked = [], threading.Event()

    def signs():
        looked.set()
        return {"7": 1}

    patience = Patience(look=0.2, named=1e9, replaced=2e9)
    with watched(signs, patience, told.append, told.append):
        assert looked.wait(60)
    assert told == []


def test_signs_that_cannot_be_had_are_asked_for_again():
    told, answers = [], iter([OSError("busy"), {"7": 1}, {"7": 1}, {"7": 1}])
    over = threading.Event()

    def signs():
        answer = next(answers, None)
        if answer is None:
            over.set()
            return {}
        if isinstance(answer, OSError):
            raise answer
        return answer

    with watched(signs, Patience(look=0.1, named=0.2, replaced=9.0), told.append, None):
        assert over.wait(60)
    (line,) = told
    assert line.startswith("worker 7 has not answered for 0.2 s: its scheduler replaces it")
