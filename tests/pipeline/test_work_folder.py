"""Work folders of killed runs, and what is not theirs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from support.imports import ROOT

from pipeline.work_folder import remove_left, work_folder

RUN = """
import math, os, sys, time
from pathlib import Path
from pipeline.work_folder import work_folder
from stages.executors import LocalExecutor
with work_folder(Path(sys.argv[1])) as folder:
    executor = LocalExecutor(2, folder=folder)
    assert sorted(executor.map(math.sqrt, [4, 9])) == [(0, 2), (1, 3)]
    print(folder, flush=True)
    time.sleep(600)
"""


def shared(pid: int) -> set[str]:
    names = {path.name for path in Path("/dev/shm").iterdir()}
    return {name for name in names if f"-{pid}-" in name or f"_{pid}_" in name}


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no memory that has names")
def test_nothing_is_left_of_a_run_that_was_killed_with_all_its_workers(tmp_path):
    run = subprocess.Popen(
        [sys.executable, "-c", RUN, tmp_path],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert run.stdout is not None
    folder = Path(run.stdout.readline().strip())
    remove_left(tmp_path)
    assert folder.is_dir() and shared(run.pid)
    processes = psutil.Process(run.pid).children(recursive=True)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    psutil.wait_procs(processes, timeout=60)
    assert folder.is_dir() and shared(run.pid)
    remove_left(tmp_path)
    assert not folder.exists() and not shared(run.pid)


@pytest.fixture
def dead():
    """The number of a process that was."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_folder_at_work_is_gone_only_at_its_end(tmp_path):
    with work_folder(tmp_path) as folder, work_folder(tmp_path) as other:
        remove_left(tmp_path)
        assert folder.is_dir() and other.is_dir() and folder != other
    assert not any(tmp_path.iterdir())


def test_only_what_is_surely_dead_and_ours_is_removed(tmp_path, dead):
    here = socket.gethostname()
    started = int(psutil.Process().create_time())
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "chapter").touch()
    kept = [
        ".work-abcd1234",
        f".work-another{here}-{dead}-17-abcd1234",
        f".work-{here}-{os.getpid()}-{started}-abcd1234",
        f".work-{here}-{dead}-17",
    ]
    for name in kept:
        (tmp_path / name).mkdir()
    link = tmp_path / f".work-{here}-{dead}-17-link1234"
    link.symlink_to(thesis)
    file = tmp_path / f".work-{here}-{dead}-17-file1234"
    file.touch()
    gone = [
        tmp_path / f".work-{here}-{dead}-17-abcd1234",
        # The number of this process, of another one before it.
        tmp_path / f".work-{here}-{os.getpid()}-17-abcd1234",
    ]
    for folder in gone:
        folder.mkdir()
        (folder / "to").symlink_to(thesis)
    remove_left(tmp_path)
    assert not any(folder.exists() for folder in gone)
    assert all((tmp_path / name).is_dir() for name in kept) and link.is_symlink()
    assert file.is_file() and (thesis / "chapter").exists()


def test_a_locked_folder_is_at_work_whatever_its_name_says(tmp_path, dead):
    with work_folder(tmp_path) as folder:
        renamed = folder.rename(tmp_path / f".work-{socket.gethostname()}-{dead}-17-abcd1234")
        remove_left(tmp_path)
        renamed.rename(folder)
    assert not any(tmp_path.iterdir())
