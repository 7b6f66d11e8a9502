"""`vitv1 finetune`: conditions, their starts, exact resumption, and what is refused."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from tiny import write_experiment

import pipeline.commands
import pipeline.finetuning
from cache.errors import UserError
from pipeline.cli import main
from pipeline.experiment import load_experiment
from pipeline.results import read_summary
from stages import finetune
from stages.finetune import finetune_condition
from stages.readouts import load_readouts
from stages.saved_readouts import saved_attributes

FINETUNE = """
[finetune]
blocks = [1]
tokens = ["patch"]
last = {last}
epochs = 4
readout_rate = 0.1
backbone_rate = 1e-2
"""


@pytest.fixture(autouse=True, scope="module")
def _no_figures():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.commands, "show_report", lambda file, terminal: None)
        yield


def experiment(folder, last='[0, 1, "full"]', **recording):
    path = write_experiment(folder, n_train=24, n_validation=8, **recording)
    path.write_text(path.read_text() + FINETUNE.format(last=last))
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """An experiment that was run once: frozen, last0, last1 and full; not to be changed."""
    path = experiment(tmp_path_factory.mktemp("mouse"))
    assert main(["run", str(path), "--quiet"]) == 0
    return path


@pytest.fixture
def copy(finished, tmp_path):
    """Its settings for a copy of its output, which a test may change."""
    shutil.copytree(load_experiment(finished).output, tmp_path / "copy")
    return f"run.output={tmp_path / 'copy'}"


def tasks(path, *overrides):
    """The tuning tasks of an experiment, by tuning, ready to run."""
    file = load_experiment(path, overrides)
    (variant,) = file.variants
    (cache,) = pipeline.finetuning.checked_caches(file)
    planned = list(pipeline.finetuning._tasks(file, variant, cache))
    return {t.condition.tuning: t for t in pipeline.finetuning._with_images(variant, planned)}


def test_tuned_conditions_stand_in_the_tables_beside_the_frozen(finished):
    file = load_experiment(finished)
    summary = read_summary(file.output)
    assert summary["tuning"].tolist() == ["frozen"] * 6 + ["last0", "last1", "full"]
    tuned = summary[summary["tuning"] != "frozen"]
    assert set(tuned["protocol"]) == {"matched"} and set(tuned["block"]) == {1}
    assert set(tuned["solver"]) == {"adamw"} and set(tuned["tokens"]) == {"patch"}
    neurons = pd.read_parquet(file.output / "results/neurons.parquet")
    assert np.isfinite(neurons.loc[neurons["tuning"] == "full", "val_varexp"]).all()
    curves = pd.read_parquet(file.output / "results/curves.parquet")
    assert curves[curves["tuning"] == "last1"]["epoch"].tolist() == [0, 1, 2, 3]


def test_training_improves_on_the_start(finished):
    """What the tests of equal outcomes below would not notice: an outcome that is the start."""
    output = load_experiment(finished).output
    frozen = load_readouts(output, tuning="frozen", tokens="patch", block=1)
    outcomes = [load_readouts(output, tuning=t).channel_weights for t in ("last0", "last1", "full")]
    for number, weights in enumerate(outcomes):
        assert not np.allclose(weights, frozen.channel_weights)
        assert all(not np.array_equal(weights, other) for other in outcomes[:number])
    neurons = pd.read_parquet(output / "results/neurons.parquet")
    read = neurons[(neurons["tokens"] == "patch") & (neurons["block"] == 1)]
    score = read.groupby("tuning")["val_varexp"].mean()
    assert (score[["last0", "last1", "full"]] > score["frozen"]).all()


def test_a_second_run_changes_no_file(finished):
    output = load_experiment(finished).output
    before = {p: p.stat().st_mtime_ns for p in output.rglob("*") if p.is_file()}
    for command in ("run", "finetune", "fit"):
        assert main([command, str(finished), "--quiet"]) == 0
    assert {p: p.stat().st_mtime_ns for p in output.rglob("*") if p.is_file()} == before


def test_names_and_counts_are_recorded_and_weights_kept(finished):
    output = load_experiment(finished).output
    for tuning, stages in (("last0", set()), ("last1", {"blocks.1"}), ("full", None)):
        task = tasks(finished)[tuning]
        kept = safetensors.torch.load_file(task.tuned_path)
        recorded = saved_attributes(output, task.condition)
        assert recorded["trained"] == {name: value.numel() for name, value in kept.items()}
        named = {n.removeprefix("vit.") for n in kept if n.startswith("vit.")}
        if stages is not None:
            assert {".".join(n.split(".")[:2]) for n in named} == stages
        assert recorded["start"] == ("images" if tuning == "full" else "cache")
    assert {"cls_token", "reg_token", "patch_embed.proj.weight"} <= named
    assert not list((output / "checkpoints").iterdir())


def test_last0_with_no_epochs_is_the_frozen_condition(finished, copy):
    """The same predictions bit for bit, and so the same FEVE."""
    task = tasks(finished, copy, "finetune.epochs=0")["last0"]
    fitted = finetune_condition(task)
    frozen = load_readouts(task.run, tuning="frozen", tokens="patch", block=1)
    np.testing.assert_array_equal(fitted.readouts.channel_weights, frozen.channel_weights)
    neurons = pd.read_parquet(task.run / "results/neurons.parquet")
    rows = neurons[
        (neurons["tuning"] == "frozen") & (neurons["block"] == 1) & (neurons["tokens"] == "patch")
    ]
    for column in ("feve", "val_varexp"):
        np.testing.assert_array_equal(fitted.columns[column], rows[column].to_numpy(float))


def test_both_starts_train_to_the_same(finished, copy):
    """From float16 tokens or from images: one model, and numbers that agree closely."""
    cached = finetune_condition(tasks(finished, copy)["last1"])
    images = finetune_condition(tasks(finished, copy, "finetune.start=images")["last1"])
    assert cached.key != images.key
    np.testing.assert_allclose(cached.test_predictions, images.test_predictions, rtol=5e-3)
    assert not np.array_equal(cached.test_predictions, images.test_predictions)


def test_micro_batches_change_nothing_but_rounding(finished, copy):
    whole = finetune_condition(tasks(finished, copy)["last1"])
    parts = finetune_condition(tasks(finished, copy, "finetune.micro_batch=5")["last1"])
    np.testing.assert_allclose(whole.test_predictions, parts.test_predictions, rtol=1e-3)


def test_the_same_seed_gives_the_same_numbers(finished, copy):
    one, again = (finetune_condition(tasks(finished, copy)["full"]) for _ in range(2))
    np.testing.assert_array_equal(one.test_predictions, again.test_predictions)
    saved = load_readouts(tasks(finished, copy)["full"].run, tuning="full")
    np.testing.assert_array_equal(one.readouts.channel_weights, saved.channel_weights)


def flags(*settings):
    return [text for setting in settings for text in ("--set", setting)]


def outdate(copy):
    """Remove the tuned results of a copy, so that they are made again."""
    results = Path(copy.partition("=")[2]) / "results"
    for left in [*results.glob("*.zarr/*-last*"), *results.glob("*.zarr/*-full-*")]:
        shutil.rmtree(left)


def test_workers_do_not_change_a_number(finished, copy):
    outdate(copy)
    settings = flags(copy, "run.workers=2", "finetune.last=[0, 1]")
    assert main(["finetune", str(finished), "--quiet", *settings]) == 0
    for tuning in ("last0", "last1"):
        one = tasks(finished)[tuning]
        two = tasks(finished, copy)[tuning]
        weights = [safetensors.torch.load_file(task.tuned_path) for task in (one, two)]
        assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


@pytest.mark.parametrize("tuning", ["last1", "full"])
def test_an_interrupted_command_goes_on_to_the_same_weights(finished, copy, monkeypatch, tuning):
    outdate(copy)
    last = "['full']" if tuning == "full" else "[1]"
    command = ["finetune", str(finished), "--quiet", *flags(copy, f"finetune.last={last}")]
    task = tasks(finished, copy)[tuning]
    task.tuned_path.unlink()
    original = finetune.finetune_condition

    def interrupted(task, *, progress):
        def stop(epoch):
            if epoch.epoch == 1:
                raise KeyboardInterrupt

        return original(task, progress=stop)

    with monkeypatch.context() as patch:
        patch.setattr(finetune, "finetune_condition", interrupted)
        assert main(command) == 130
    assert task.checkpoint.path.exists() and not task.tuned_path.exists()
    epochs = []

    def watched(task, *, progress):
        return original(task, progress=lambda e: epochs.append(e.epoch) or progress(e))

    with monkeypatch.context() as patch:
        patch.setattr(finetune, "finetune_condition", watched)
        assert main(command) == 0
    assert epochs == [0, 1, 2, 3] and not task.checkpoint.path.exists()
    ours = safetensors.torch.load_file(task.tuned_path)
    theirs = safetensors.torch.load_file(tasks(finished)[tuning].tuned_path)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_a_changed_setting_tunes_exactly_what_depends_on_it(finished, copy, capsys):
    def tuned(*settings):
        capsys.readouterr()
        assert main(["finetune", str(finished), *flags(copy, *settings)]) == 0
        return capsys.readouterr().err

    assert "0 conditions tuned, 3 up to date" in tuned()
    assert "1 conditions tuned, 1 up to date" in tuned("finetune.last=[0, 2]")
    assert "0 conditions tuned, 1 up to date" in tuned("finetune.last=[1]")
    told = tuned("finetune.last=[0, 1]", "finetune.backbone_rate=2e-3")
    assert "2 conditions tuned, 0 up to date" in told
    assert "last1 at block 1: trained blocks.1 28," in told
    folder = Path(copy.partition("=")[2]) / "tuned"
    assert len(list(folder.iterdir())) == 4, "one file per condition, outdated ones replaced"


def test_only_up_to_date_conditions_stand_in_the_tables(finished, copy):
    output = Path(copy.partition("=")[2])
    refit = flags(copy, "finetune.last=[0]", "readout.adamw.max_epochs=2")
    assert main(["fit", str(finished), "--quiet", *refit]) == 0
    assert set(read_summary(output)["tuning"]) == {"frozen"}
    assert main(["finetune", str(finished), "--quiet", *refit]) == 0
    assert set(read_summary(output)["tuning"]) == {"frozen", "last0"}


def test_the_published_protocol_starts_from_adamw_and_relaxes_the_penalty(finished):
    task = tasks(finished, "finetune.protocol=minimodel-vit", "readout.solver=als")["last0"]
    assert task.frozen.solver == task.condition.solver == "adamw"
    penalty = finetune._penalty(task)
    assert penalty.of == "factors" and torch.allclose(penalty.factor * 32, torch.tensor(1e-4))


def test_the_matched_protocol_keeps_the_penalty_per_trial(finished):
    penalty = finetune._penalty(tasks(finished)["last0"])
    assert penalty.of == "factors"
    assert torch.allclose(penalty.factor, torch.tensor(0.1 / 64))


def refused(capsys, *arguments):
    capsys.readouterr()
    assert main([*arguments]) == 2
    err = capsys.readouterr().err.strip()
    assert err.startswith("vitv1: ") and "\n" not in err
    return err


def test_bad_input(finished, capsys):
    output = load_experiment(finished).output
    before = sorted(output.rglob("*"))

    def message(*pairs):
        return refused(capsys, "finetune", str(finished), "--quiet", *flags(*pairs))

    assert "last = 7 at block 1: only 3 stages exist" in message("finetune.last=[0, 7]")
    assert "no frozen readouts of block 1" in message("run.seed=3")
    assert f"run vitv1 fit {finished}" in message("run.seed=3")
    assert "only outdated" in message("readout.adamw.penalty=0.3")
    assert "finetune.last" in message("finetune.last=[-1]")
    assert "finetune.last" in message('finetune.last=["all"]')
    assert "block 5 of 3" in message("finetune.blocks=[5]")
    assert 'did you mean "epochs"' in message("finetune.epoch=3")
    assert "other tokens" in message("backbone.seed=3")
    assert sorted(output.rglob("*")) == before


def test_no_finetune_table(tmp_path, capsys):
    path = write_experiment(tmp_path)
    assert "has no [finetune] table" in refused(capsys, "finetune", str(path))


def test_without_a_cache_training_starts_from_images(finished, copy):
    """The frozen readouts are there, and images and weights that are those of their tokens."""
    shutil.rmtree(Path(copy.partition("=")[2]) / "features.zarr")
    command = ["finetune", str(finished), "--quiet", *flags(copy)]
    assert main([*command, "--set", "finetune.last=[0, 2]"]) == 0
    output = Path(copy.partition("=")[2])
    task = tasks(finished)["last0"]
    assert saved_attributes(output, task.condition)["key"] == task.key, "kept as it was"
    started = saved_attributes(output, dataclasses.replace(task.condition, tuning="last2"))
    assert started["start"] == "images" and started["cache_key"] == task.cache_key
    assert read_summary(output)["tuning"].tolist() == ["frozen"] * 6 + ["last0", "last2"]


def test_without_a_cache_other_weights_are_still_told(finished, copy, capsys):
    shutil.rmtree(Path(copy.partition("=")[2]) / "features.zarr")
    settings = flags(copy, "backbone.seed=1")
    assert "only outdated" in refused(capsys, "finetune", str(finished), "--quiet", *settings)


def test_nothing_fitted_names_the_command(tmp_path, capsys):
    path = experiment(tmp_path)
    assert f"vitv1 fit {path}" in refused(capsys, "finetune", str(path))
    assert not (tmp_path / "runs").exists()


def test_other_weights_than_the_tokens_are_refused(finished, copy):
    task = tasks(finished, copy)["last1"]
    other = dataclasses.replace(task, backbone=dataclasses.replace(task.backbone, seed=1))
    with pytest.raises(UserError, match="another backbone"):
        finetune_condition(other)


def test_a_checkpoint_of_other_settings_is_refused(finished, copy):
    task = tasks(finished, copy, "finetune.epochs=5")["last0"]
    other = tasks(finished, copy, "finetune.epochs=6")["last0"]
    finetune_condition(other)
    other.checkpoint.path.rename(task.checkpoint.path)
    with pytest.raises(UserError, match="other settings"):
        finetune_condition(task)


def test_linear_readouts_are_refused(finished, capsys):
    settings = flags("readout.solver=als", "readout.als.output=linear")
    message = refused(capsys, "finetune", str(finished), "--quiet", *settings)
    assert "linear" in message


def test_a_failure_writes_no_result(finished, copy, capsys):
    """Exit 1, one line, and the tables as they were."""
    table = Path(copy.partition("=")[2]) / "results/summary.csv"
    before = table.read_bytes()
    settings = flags(copy, "finetune.readout_rate=1e30", "finetune.last=[0]")
    assert main(["finetune", str(finished), "--quiet", *settings]) == 1
    assert "finetune last0 at block 1: the training loss is" in capsys.readouterr().err
    assert table.read_bytes() == before
