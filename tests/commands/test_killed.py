"""Commands killed in the middle: nothing of theirs goes on, and the next one clears up."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import psutil
import pytest
from support.imports import ROOT
from support.tiny import write_experiment

from pipeline.cli.main import main


@pytest.mark.parametrize("executor", ["local", "dask"])
def test_the_next_run_clears_up_after_a_killed_one(tmp_path, executor, no_figures):
    path = write_experiment(tmp_path, n_train=40, n_validation=8)
    assert main(["extract", str(path), "--quiet"]) == 0
    command = [
        sys.executable, "-m", "pipeline", "fit", str(path), f"--set=run.executor={executor}",
        "--set=run.workers=2", "--set=readout.adamw.max_epochs=100000",
        "--set=readout.adamw.patience=100000",
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while len(computing(process.pid)) < 2:
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.1)
    (folder,) = tmp_path.glob("runs/.work-*")
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    # About two seconds where cores are free.
    _, left = psutil.wait_procs(children, timeout=60)
    assert left == [] and folder.is_dir()
    assert main(["run", str(path), "--quiet", "--set=readout.blocks=[1]"]) == 0
    assert not list(tmp_path.glob("runs/.work-*"))


def computing(pid: int) -> list[psutil.Process]:
    """Descendants that have computed for a while."""
    found = psutil.Process(pid).children(recursive=True)
    return [each for each in found if each.is_running() and each.cpu_times().user > 3]
