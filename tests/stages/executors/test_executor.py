"""Processes of this machine: tasks whose worker died, and tasks on several devices."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from stages.executors import LocalExecutor, WorkersDied


@dataclass(frozen=True)
class Meeting:
    """Kills its worker once, if the file is not there yet."""

    file: Path
    number: int


def meet(meeting: Meeting) -> int:
    if meeting.number == 1 and not meeting.file.exists():
        meeting.file.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return 10 * meeting.number


def die(meeting: Meeting) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return meeting.number


def test_a_task_that_lost_its_process_is_computed_again(tmp_path, monkeypatch):
    monkeypatch.setattr("stages.executors.executor.DEATHS", 1)
    tasks = [Meeting(tmp_path / "met", number) for number in range(4)]
    # Tasks for the CPU take no device, and need no field for it.
    executor = LocalExecutor(2, folder=tmp_path, devices=("gpu0", "gpu1"))
    assert dict(executor.map(meet, tasks)) == {0: 0, 1: 10, 2: 20, 3: 30}
    with pytest.raises(WorkersDied, match=r"lower run\.workers"):
        dict(executor.map(die, tasks))


@dataclass(frozen=True)
class Visit:
    """Notes that it is on its device, and stays there for a while."""

    folder: Path
    number: int
    device: str = "elsewhere"


def visit(task: Visit) -> tuple[str, int]:
    """The device and the process; no other task is there. One loses its process, once."""
    there = [int(file.name.split("-")[1]) for file in task.folder.glob(f"{task.device}-*")]
    assert not any(psutil.pid_exists(pid) for pid in there)
    present = task.folder / f"{task.device}-{os.getpid()}"
    present.touch()
    time.sleep(1 if task.number == 0 else 0.05)
    present.unlink()
    lost = task.folder / "lost"
    if task.number == 5 and not lost.exists():
        lost.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return task.device, os.getpid()


def visits(folder: Path, number: int) -> list[Visit]:
    return [Visit(folder, each) for each in range(number)]


def test_each_device_has_one_task_at_a_time_in_a_process_of_its_own(tmp_path):
    executor = LocalExecutor(3, folder=tmp_path, devices=("gpu0", "gpu1"))
    found = dict(executor.map(visit, visits(tmp_path, 8), device="gpu0"))
    assert found.keys() == set(range(8)) and (tmp_path / "lost").exists()
    assert {device for device, _ in found.values()} == {"gpu0", "gpu1"}
    assert len(set(found.values())) <= 4, "two before one was lost, and two after"
    assert not any(psutil.pid_exists(pid) for _, pid in found.values())


def test_one_worker_takes_one_device(tmp_path):
    executor = LocalExecutor(1, folder=tmp_path, devices=("gpu0", "gpu1"))
    assert not executor.remote
    found = dict(executor.map(visit, visits(tmp_path, 2), device="gpu0"))
    assert set(found.values()) == {("elsewhere", os.getpid())}, "tasks are as they were given"


def stay(task: Visit) -> None:
    time.sleep(100 * min(task.number, 1))


def test_nobody_computes_on_when_nobody_waits(tmp_path):
    executor = LocalExecutor(2, folder=tmp_path, devices=("cpu", "cpu"))
    results = executor.map(stay, visits(tmp_path, 8), device="cuda")
    assert next(results) == (0, None)
    before = time.monotonic()
    results.close()
    assert time.monotonic() - before < 30
