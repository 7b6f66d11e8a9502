"""Settings of every test: one torch thread, no network, no wait for disks; shared runs."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

settings.register_profile("vitv1", deadline=None, derandomize=True)
settings.load_profile("vitv1")


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _no_wait_for_disks() -> Iterator[None]:
    """No test cuts the power. Processes that tests start do wait; some tests watch the calls."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands without figures and report, which take longer than all else in small runs."""
    monkeypatch.setattr("pipeline.commands.report_run", lambda run, terminal: [run / "report.html"])


@pytest.fixture(scope="module")
def few_figures() -> Iterator[None]:
    """Commands with a report, and with one figure in place of them all: drawing takes longest."""
    from benchmarks.trust.small_run import few_figures as few

    with few():
        yield


@pytest.fixture(scope="session")
def tuned_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment that was run once: frozen, last0, last1 and full; not to be changed."""
    from support.tuning_runs import write_tuning_experiment

    from pipeline.cli.main import main

    path = write_tuning_experiment(tmp_path_factory.mktemp("mouse"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.commands.report_run", lambda run, terminal: [run / "report.html"])
        assert main(["run", str(path), "--quiet"]) == 0
    return path


@pytest.fixture
def run_copy(tuned_run: Path, tmp_path: Path) -> str:
    """Its settings for a copy of its output, which a test may change."""
    from pipeline.experiment import load_experiment

    shutil.copytree(load_experiment(tuned_run).output, tmp_path / "copy")
    return f"run.output={tmp_path / 'copy'}"
