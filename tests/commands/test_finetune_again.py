"""`vitv1 finetune` run again: what is up to date, interrupted, or tuned by several workers."""

import dataclasses
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch
from support.tuning_runs import flags, outdate, tasks

from pipeline.cli.main import main
from pipeline.experiment import load_experiment
from pipeline.results.tables import read_summary
from stages.finetune import run as finetune
from stages.readouts.manifest import saved_attributes

pytestmark = pytest.mark.usefixtures("no_figures")


def test_a_second_run_changes_no_file(tuned_run):
    output = load_experiment(tuned_run).output
    before = times(output)
    for command in ("run", "finetune", "fit"):
        assert main([command, str(tuned_run), "--quiet"]) == 0
    assert times(output) == before


def times(output):
    """When each file was written; the log tells of the report that `tuned_run` has not drawn."""
    files = (p for p in output.rglob("*") if p.is_file() and p.name != "run.log")
    return {p: p.stat().st_mtime_ns for p in files}


@pytest.mark.parametrize("executor", ["local", "dask"])
def test_workers_do_not_change_a_number(tuned_run, run_copy, executor):
    outdate(run_copy)
    workers = f"run.executor={executor}", "run.workers=2"
    settings = flags(run_copy, *workers, "finetune.last=[0, 1]")
    assert main(["finetune", str(tuned_run), "--quiet", *settings]) == 0
    for tuning in ("last0", "last1"):
        one = tasks(tuned_run)[tuning]
        two = tasks(tuned_run, run_copy)[tuning]
        weights = [safetensors.torch.load_file(task.weights_path) for task in (one, two)]
        assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


@pytest.mark.parametrize("tuning", ["last1", "full"])
def test_an_interrupted_command_goes_on_to_the_same_weights(
    tuned_run, run_copy, monkeypatch, tuning
):
    outdate(run_copy)
    last = "['full']" if tuning == "full" else "[1]"
    command = ["finetune", str(tuned_run), "--quiet", *flags(run_copy, f"finetune.last={last}")]
    task = tasks(tuned_run, run_copy)[tuning]
    task.weights_path.unlink()
    original = finetune.finetune_condition

    def interrupted(task, *, progress):
        def stop(epoch):
            if epoch.epoch == 1:
                raise KeyboardInterrupt

        return original(task, progress=stop)

    with monkeypatch.context() as patch:
        patch.setattr(finetune, "finetune_condition", interrupted)
        assert main(command) == 130
    assert task.checkpoint.path.exists() and not task.weights_path.exists()
    epochs = []

    def watched(task, *, progress):
        return original(task, progress=lambda e: epochs.append(e.epoch) or progress(e))

    with monkeypatch.context() as patch:
        patch.setattr(finetune, "finetune_condition", watched)
        assert main(command) == 0
    assert epochs == [0, 1, 2, 3] and not task.checkpoint.path.exists()
    ours = safetensors.torch.load_file(task.weights_path)
    theirs = safetensors.torch.load_file(tasks(tuned_run)[tuning].weights_path)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_a_changed_setting_tunes_exactly_what_depends_on_it(tuned_run, run_copy, capsys):
    def tuned(*settings):
        capsys.readouterr()
        assert main(["finetune", str(tuned_run), *flags(run_copy, *settings)]) == 0
        return capsys.readouterr().err

    assert "0 conditions tuned, 3 up to date" in tuned()
    assert "1 conditions tuned, 1 up to date" in tuned("finetune.last=[0, 2]")
    assert "0 conditions tuned, 1 up to date" in tuned("finetune.last=[1]")
    told = tuned("finetune.last=[0, 1]", "finetune.backbone_rate=2e-3")
    assert "2 conditions tuned, 0 up to date" in told
    assert "last1 at block 1: trained blocks.1 28," in told
    folder = Path(run_copy.partition("=")[2]) / "tuned"
    assert len(list(folder.iterdir())) == 4, "one file per condition, outdated ones replaced"


def test_only_up_to_date_conditions_stand_in_the_tables(tuned_run, run_copy):
    output = Path(run_copy.partition("=")[2])
    refit = flags(run_copy, "finetune.last=[0]", "readout.adamw.max_epochs=2")
    assert main(["fit", str(tuned_run), "--quiet", *refit]) == 0
    assert set(read_summary(output)["tuning"]) == {"frozen"}
    assert main(["finetune", str(tuned_run), "--quiet", *refit]) == 0
    assert set(read_summary(output)["tuning"]) == {"frozen", "last0"}


def test_without_a_cache_training_starts_from_images(tuned_run, run_copy):
    """The frozen readouts are there, and images and weights that are those of their tokens."""
    shutil.rmtree(Path(run_copy.partition("=")[2]) / "features.zarr")
    command = ["finetune", str(tuned_run), "--quiet", *flags(run_copy)]
    assert main([*command, "--set", "finetune.last=[0, 2]"]) == 0
    output = Path(run_copy.partition("=")[2])
    task = tasks(tuned_run)["last0"]
    assert saved_attributes(output, task.condition)["key"] == task.key, "kept as it was"
    started = saved_attributes(output, dataclasses.replace(task.condition, tuning="last2"))
    assert started["start"] == "images" and started["cache_key"] == task.cache_key
    assert read_summary(output)["tuning"].tolist() == ["frozen"] * 6 + ["last0", "last2"]
