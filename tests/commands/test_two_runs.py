"""Runs on one folder: of simultaneous ones one is told who writes; no seed is lost to another."""

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import pandas as pd
import pytest
from benchmarks.trust.two_runs import two_run_trials
from support.tiny import write_experiment

from cache import folder_lock
from pipeline.cli.main import main
from pipeline.experiment import load_experiment
from pipeline.output import output_held


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = write_experiment(tmp_path_factory.mktemp("two"))
    assert main(["run", str(path), "--quiet"]) == 0
    return path


def said(capsys, *arguments, code=2):
    """The one line that a refused command says."""
    capsys.readouterr()
    assert main([*map(str, arguments), "--quiet"]) == code
    told = capsys.readouterr()
    assert code == 0 or (told.err.count("\n") == 1 and not told.out)
    return told.err


def seeds(path):
    return set(pd.read_csv(path.parent / "runs/results/summary.csv")["seed"])


def test_of_simultaneous_runs_none_spoils_the_folder(tmp_path):
    """One pair here, many in `make bench BENCH=trust`."""
    counts = two_run_trials(tmp_path, 1)
    print(dict(counts))
    # Whether one is refused depends on when it starts; the next test sees to that.
    assert counts["pairs"] == 1
    assert counts["not rerunnable"] == counts["unreadable"] == 0


COMMANDS = ["run", "extract", "fit", "finetune", "baseline", "report", "cache repair"]


@pytest.mark.parametrize("command", COMMANDS)
def test_whatever_writes_there_is_refused_at_once(finished, capsys, command):
    output = load_experiment(finished).output
    with output_held(load_experiment(finished)):
        before = {p: p.stat().st_mtime_ns for p in output.rglob("*")}
        told = said(capsys, *command.split(), finished, "--set", "run.seed=7")
        assert {p: p.stat().st_mtime_ns for p in output.rglob("*")} == before
    here = f"{output} is being written by process {os.getpid()} on {socket.gethostname()} since "
    assert here in told and "wait for it or stop it, then repeat" in told
    assert f"such as --set run.output={output}-seed7" in told


def test_plans_readers_and_extractions_to_elsewhere_go_on(finished, tmp_path, capsys):
    output = load_experiment(finished).output
    elsewhere = ["--set", f"cache.path={tmp_path / 'c.zarr'}"]
    with output_held(load_experiment(finished)):
        said(capsys, "run", finished, "--dry-run", code=0)
        said(capsys, "compare", output, output, "--output", tmp_path / "compared", code=0)
        said(capsys, "cache", "verify", output / "features.zarr", code=0)
        said(capsys, "extract", finished, *elsewhere, code=0)


def test_another_seed_does_not_take_the_rows_of_the_first(finished, tmp_path, capsys, no_figures):
    path = tmp_path / "mouse.toml"
    shutil.copytree(finished.parent / "mouse", tmp_path / "mouse")
    output = tmp_path / "runs"
    shutil.copytree(load_experiment(finished).output, output)
    path.write_text(finished.read_text().replace(str(finished.parent), str(tmp_path)))
    before = (output / "results/neurons.parquet").read_bytes()
    for command in ("run", "fit"):
        told = said(capsys, command, path, "--set", "run.seed=1")
        assert f"{output} holds results of seed 0, which its tables would lose" in told
        assert "run.seed = [0, 1]" in told and f"--set run.output={output}-seed1" in told
    assert (output / "results/neurons.parquet").read_bytes() == before
    assert main(["run", str(path), "--quiet", "--set", "run.seed=[0, 1]"]) == 0
    assert seeds(path) == {0, 1}
    # Fewer are a choice.
    assert main(["run", str(path), "--set", "run.seed=1"]) == 0
    note = "6 conditions that this experiment does not name are no longer in the tables"
    assert note in " ".join(capsys.readouterr().err.split()) and seeds(path) == {1}
    assert main(["run", str(path), "--quiet", "--set", f"run.output={output}-seed2"]) == 0


def test_a_refused_run_leaves_no_folder(tmp_path, capsys):
    path = write_experiment(tmp_path)
    shutil.rmtree(tmp_path / "mouse")
    deep = tmp_path / "a/b/c"
    told = said(capsys, "run", path, "--set", f"run.output={deep}")
    assert "no such file or folder" in told and not (tmp_path / "a").exists()
    said(capsys, "report", path)
    assert not (tmp_path / "runs").exists()


def test_what_a_killed_run_left_is_removed_and_nothing_else(finished):
    results = load_experiment(finished).output / "results"
    left = results / "readouts.zarr.vitv1-new-node17-4/bias"
    left.mkdir(parents=True)
    mine = results / "readouts.zarr.new"
    mine.mkdir()
    linked = results / "predictions.zarr.vitv1-old-node17-4"
    linked.symlink_to(mine)
    assert main(["run", str(finished), "--quiet"]) == 0
    assert not left.parent.exists() and mine.exists() and linked.is_symlink()
    linked.unlink()
    mine.rmdir()


def test_a_folder_of_others_is_shown_without_a_lock(finished, monkeypatch, capsys):
    """Who cannot write there cannot spoil it; and nobody waits for a reader."""
    output = load_experiment(finished).output
    really_open = os.open

    def refuse(path, flags, *mode, **options):
        if flags & os.O_CREAT and str(path).endswith(".lock"):
            raise PermissionError(13, "Permission denied", str(path))
        return really_open(path, flags, *mode, **options)

    monkeypatch.setattr("os.open", refuse)
    monkeypatch.setattr("os.access", lambda path, mode: mode != os.W_OK)
    assert main(["run", str(finished), "--quiet"]) == 0
    with folder_lock(output, setting="run.output", instead=""):
        handle = really_open(output, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(handle)
    assert not (output / ".lock").exists()


def test_a_batch_system_that_ends_a_run_frees_its_folder(tmp_path):
    """It sends SIGTERM before it kills; the name of a host would keep all others out."""
    path = write_experiment(tmp_path)
    lock = tmp_path / "runs/.lock"
    with subprocess.Popen([sys.executable, "-m", "pipeline", "run", path, "--quiet"]) as process:
        while not lock.exists() or not lock.read_bytes():
            assert process.poll() is None
            time.sleep(0.01)
        assert json.loads(lock.read_text())["pid"] == process.pid
        process.send_signal(signal.SIGTERM)
    assert process.returncode == 128 + signal.SIGTERM
    assert not lock.exists()
