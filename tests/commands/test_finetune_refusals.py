"""Refusals and failures of `vitv1 finetune`: one line, and nothing half-written."""

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch
from support.tiny import write_experiment
from support.tuning_runs import flags, refused, tasks, write_tuning_experiment

from cache import UserError
from pipeline.cli.main import main
from pipeline.experiment import load_experiment
from stages.finetune.run import finetune_condition

pytestmark = pytest.mark.usefixtures("no_figures")


def files(run):
    """Every file of a run with when it was written; checkpoints are for going on, not results."""
    found = [p for p in run.rglob("*") if p.is_file() and p.name != "run.log"]
    return {path: path.stat().st_mtime_ns for path in found if path.parent.name != "checkpoints"}


def test_bad_input(tuned_run, capsys):
    output = load_experiment(tuned_run).output
    before = sorted(output.rglob("*"))

    def message(*pairs):
        return refused(capsys, "finetune", str(tuned_run), "--quiet", *flags(*pairs))

    assert "last = 7 at block 1: only 3 layers exist" in message("finetune.last=[0, 7]")
    assert "no frozen readouts of mouse, ViT-S/16 DINOv3, block 1" in message("run.seed=3")
    assert f"run vitv1 fit {tuned_run}" in message("run.seed=3")
    assert "only outdated" in message("readout.adamw.penalty=0.3")
    assert "finetune.last" in message("finetune.last=[-1]")
    assert "finetune.last" in message('finetune.last=["all"]')
    assert "block 5 of 3" in message("finetune.blocks=[5]")
    assert 'did you mean "epochs"' in message("finetune.epoch=3")
    assert "finetune.rope_rescale" in message("finetune.rope_rescale=0.5")
    assert "other tokens" in message("backbone.seed=3")
    assert sorted(output.rglob("*")) == before


def test_nothing_to_rescale(tmp_path, capsys):
    path = write_tuning_experiment(tmp_path)
    settings = flags("finetune.rope_rescale=2", "backbone.name=vit_small_patch16_224.dino")
    said = refused(capsys, "run", str(path), *settings)
    assert said.startswith("vitv1: finetune.rope_rescale = 2: ")
    assert "has no rotary embedding to rescale" in said
    assert not (tmp_path / "runs").exists()


def test_no_finetune_table(tmp_path, capsys):
    path = write_experiment(tmp_path)
    assert "has no [finetune] table" in refused(capsys, "finetune", str(path))


def test_without_a_cache_other_weights_are_still_told(tuned_run, run_copy, capsys):
    shutil.rmtree(Path(run_copy.partition("=")[2]) / "features.zarr")
    settings = flags(run_copy, "backbone.seed=1")
    assert "only outdated" in refused(capsys, "finetune", str(tuned_run), "--quiet", *settings)


def test_nothing_fitted_names_the_command(tmp_path, capsys):
    path = write_tuning_experiment(tmp_path)
    assert f"vitv1 fit {path}" in refused(capsys, "finetune", str(path))
    assert not (tmp_path / "runs").exists()


def test_other_weights_than_the_tokens_are_refused(tuned_run, run_copy):
    task = tasks(tuned_run, run_copy)["last1"]
    other = dataclasses.replace(task, backbone=dataclasses.replace(task.backbone, seed=1))
    with pytest.raises(UserError, match="another backbone"):
        finetune_condition(other)


def test_another_cache_than_the_planned_one_is_refused(tuned_run, run_copy):
    task = tasks(tuned_run, run_copy)["last1"]
    assert task.start == "cache"
    with pytest.raises(UserError, match="holds other tokens than before"):
        finetune_condition(dataclasses.replace(task, cache_key="0" * 64))


def test_a_checkpoint_of_other_settings_is_refused(tuned_run, run_copy, capsys):
    settings = [run_copy, "finetune.last=[0]", "finetune.epochs=5"]
    task = tasks(tuned_run, *settings)["last0"]
    other = tasks(tuned_run, run_copy, "finetune.epochs=6")["last0"]
    finetune_condition(other)
    other.checkpoint.path.rename(task.checkpoint.path)
    other.weights_path.unlink()
    before = files(task.run)
    assert main(["finetune", str(tuned_run), "--quiet", *flags(*settings)]) > 0
    message = capsys.readouterr().err
    assert f"{task.checkpoint.path} is the checkpoint of a training run with other" in message
    assert "delete it" in message and files(task.run) == before


def test_linear_readouts_are_refused(tuned_run, capsys):
    settings = flags("readout.solver=als", "readout.als.output=linear")
    message = refused(capsys, "finetune", str(tuned_run), "--quiet", *settings)
    assert "linear" in message


def test_a_failure_writes_no_result(tuned_run, run_copy, capsys):
    """Exit 1, a line that says where, and every result as it was."""
    settings = [run_copy, "finetune.readout_rate=1e30", "finetune.last=[0]"]
    before = files(tasks(tuned_run, run_copy)["last0"].run)
    assert main(["finetune", str(tuned_run), "--quiet", *flags(*settings)]) == 1
    assert "finetune last0 at block 1: the training loss is" in capsys.readouterr().err
    assert files(tasks(tuned_run, run_copy)["last0"].run) == before


def test_out_of_memory_names_the_batch_and_what_to_lower(tuned_run, run_copy, capsys, monkeypatch):
    def full(tuning, rows):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr("stages.training.network.RecordedNetwork.losses", full)
    settings = [run_copy, "finetune.last=[1]", "finetune.epochs=5", "finetune.micro_batch=16"]
    before = files(tasks(tuned_run, run_copy)["last1"].run)
    assert main(["finetune", str(tuned_run), "--quiet", *flags(*settings)]) == 1
    message = capsys.readouterr().err
    assert "out of memory at a batch size of 32: lower finetune.micro_batch (now 16)" in message
    assert files(tasks(tuned_run, run_copy)["last1"].run) == before
