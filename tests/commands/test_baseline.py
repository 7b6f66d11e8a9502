"""`vitv1 baseline`: conditions in the tables, what is trained again and what is refused."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file
from support.recording_files import write_minimodel
from support.runs import only_variant, plan_of, recording_of
from support.tiny import write_experiment

from pipeline.cli.main import main
from pipeline.experiment import load_experiment
from pipeline.results.tables import read_summary
from pipeline.run.conditions import run_stage
from pipeline.terminal import Terminal
from stages.baseline.stage import Baseline
from stages.feve import fev_and_feve
from stages.readouts import load_readouts
from stages.readouts.manifest import saved_attributes
from stages.training.checkpoints import Checkpoint

pytestmark = pytest.mark.usefixtures("no_figures")

TABLE = """
[baseline]
models = ["cnn_fullmodel", "cnn_minimodel"]
kernels = [5, 3]
channels = [4, 6]
batch_size = 8
epochs = [2, 1]
minimodel = { channels = 5 }
"""


FULL = "baseline.models=['cnn_fullmodel']"


def experiment(folder, shape=(16, 24)):
    path = write_experiment(folder, shape=shape)
    path.write_text(path.read_text() + TABLE)
    return path


def trained(path, *settings):
    """Train what is not up to date, without tables; what the user is told."""
    told = []
    terminal = SimpleNamespace(note=told.append, bar=Terminal(quiet=True).bar)
    stage, file = Baseline(), load_experiment(path, settings)
    steps = list(plan_of(path, *settings).of(stage.name))
    failed = run_stage(file, stage, steps, terminal)
    return failed if failed else told[-1]


def up_to_date(path, *settings):
    """Conditions that need no training."""
    steps = plan_of(path, *settings).of("baseline")
    return [step.condition for step in steps if step.state == "up to date"]


def baseline(path, *settings):
    options = [text for setting in settings for text in ("--set", setting)]
    return main(["baseline", str(path), *options])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = experiment(tmp_path_factory.mktemp("mouse"))
    assert baseline(path) == 0
    return path


def neurons(path):
    return pd.read_parquet(load_experiment(path).output / "results/neurons.parquet")


def test_baselines_are_rows_of_the_same_tables(finished):
    output = load_experiment(finished).output
    summary = read_summary(output)
    assert summary["model"].tolist() == ["cnn_fullmodel", "cnn_minimodel"]
    assert set(summary["input_size"]) == {"16x24"} and set(summary["tuning"]) == {"full"}
    table = neurons(finished)
    assert len(table) == 2 * 6
    for column in ("tokens", "block", "blocks", "protocol", "weights", "cache_key"):
        assert table[column].isna().all()
    assert np.isfinite(table["val_varexp"]).all()
    curves = pd.read_parquet(output / "results/curves.parquet")
    assert curves.groupby("model")["epoch"].max().tolist() == [2, 2]
    assert np.isfinite(curves["training_loss"]).all()


def test_feve_is_that_of_the_saved_predictions(finished):
    import zarr

    file, recording = load_experiment(finished), recording_of(finished)
    conditions = up_to_date(finished)
    assert len(conditions) == 2
    for condition in conditions:
        group = zarr.open_group(str(file.output / "results/predictions.zarr" / condition.slug))
        _, feve = fev_and_feve(recording.test_responses, group["test"][:])
        table = neurons(finished)
        found = table.loc[table["model"] == condition.model, "feve"].to_numpy(float)
        np.testing.assert_array_equal(found, feve)


def test_readouts_and_networks_are_kept(finished):
    output = load_experiment(finished).output
    full = load_readouts(output, model="cnn_fullmodel", tokens="tuned")
    assert full.grid == (8, 12, 6) and full.bias.shape == (6,)
    assert load_readouts(output, model="cnn_minimodel", tokens="tuned").grid == (8, 12, 5)
    kept = sorted((output / "tuned").iterdir())
    assert [path.name.split("-")[1] for path in kept] == ["cnn_fullmodel", "cnn_minimodel"]
    assert load_file(kept[0])["core.depthwise.weight"].shape == (6, 1, 3, 3)
    assert not any((output / "checkpoints").iterdir())


def test_the_saved_readout_on_the_kept_core_gives_the_saved_predictions(finished):
    import torch
    import zarr

    from stages.baseline.fullmodel import FullModel
    from stages.baseline.images import grey_images

    file = load_experiment(finished)
    variant = only_variant(finished)
    (recording,) = variant.recordings
    images = grey_images(variant.stimuli.select(recording.all_image_ids), crop=(0, 24))
    model = FullModel(
        file.variants[0].baseline, input_size=(16, 24), neurons=recording.neurons, seed=9
    )
    (path,) = (file.output / "tuned").glob("*fullmodel*")
    model.load_state_dict(load_file(path))
    with torch.no_grad():
        features = model.eval().core(images.batch(recording.test_image_ids))
    predicted = load_readouts(file.output, model="cnn_fullmodel", tokens="tuned").predict(features)
    (group,) = (file.output / "results/predictions.zarr").glob("*fullmodel*")
    saved = zarr.open_group(str(group))["test"][:]
    np.testing.assert_allclose(predicted, saved, rtol=1e-4)


def test_a_second_run_changes_no_file(finished):
    output = load_experiment(finished).output
    before = {p: p.stat().st_mtime_ns for p in output.rglob("*") if p.is_file()}
    assert baseline(finished) == 0
    assert {p: p.stat().st_mtime_ns for p in output.rglob("*") if p.is_file()} == before


def test_a_changed_setting_trains_what_depends_on_it(tmp_path):
    path = experiment(tmp_path)
    assert "2 conditions trained, 0 up to date" in trained(path)
    assert "1 conditions trained, 1 up to date" in trained(path, "baseline.minimodel.sparsity=0.1")
    assert "2 conditions trained, 0 up to date" in trained(path, "baseline.patience=3")
    assert len(list((tmp_path / "runs/tuned").iterdir())) == 2
    assert "0 conditions trained, 1 up to date" in trained(path, "baseline.patience=3", FULL)


def test_minimodels_share_the_fullmodels_first_layer(tmp_path):
    """Where its file is lost, it is trained again for them."""
    path = experiment(tmp_path)
    trained(path, FULL)
    (kept,) = (tmp_path / "runs/tuned").iterdir()
    before = load_file(kept)
    kept.unlink()
    assert "2 conditions trained" in trained(path)
    after = load_file(kept)
    assert all((before[name] == after[name]).all() for name in before)


def test_everything_in_one_run(tmp_path):
    path = experiment(tmp_path, shape=(32, 64))
    assert main(["run", str(path), "--quiet", "--set", "readout.blocks=[1]"]) == 0
    models = read_summary(tmp_path / "runs")["model"].tolist()
    assert models[-2:] == ["cnn_fullmodel", "cnn_minimodel"] and len(models) == 4
    assert main(["fit", str(path), "--quiet", "--set", "readout.blocks=[1]"]) == 0
    assert read_summary(tmp_path / "runs")["model"].tolist() == models
    assert baseline(path, "readout.blocks=[1]") == 0
    assert read_summary(tmp_path / "runs")["model"].tolist() == models


def test_variants_of_other_backbones_share_the_baselines(tmp_path):
    path = experiment(tmp_path)
    names = "backbone.name=['vit_small_patch16_dinov3', 'vit_small_patch16_224.dino']"
    assert up_to_date(path, names) == []
    assert "1 conditions trained, 0 up to date" in trained(path, names, FULL)
    assert len(up_to_date(path, names, FULL)) == 1


@pytest.mark.parametrize(("name", "crop"), [("FX10", [0, 130]), ("FX20", [46, 176])])
def test_the_published_columns_of_the_minimodel_release(tmp_path, name, crop):
    files = write_minimodel(tmp_path, name=f"{name}_nat60k_2023_09_29.npz")
    path = tmp_path / "mouse.toml"
    path.write_text(
        f'[recording]\nformat = "minimodel"\npath = "{files.recording.name}"\nname = "{name}"\n'
        f'[stimuli]\npath = "{files.images.name}"\n[run]\noutput = "{tmp_path / "runs"}"\n{TABLE}'
    )
    assert "1 conditions trained" in trained(path, FULL)
    assert [c.input_size for c in up_to_date(path, FULL)] == ["66x130"]
    # The same columns, named: nothing to train.
    assert "0 conditions trained, 1 up to date" in trained(path, FULL, f"baseline.crop={crop}")


def test_the_networks_input_may_have_another_size(tmp_path):
    path = experiment(tmp_path)
    trained(path, FULL, "baseline.input_size=[18, 32]", "baseline.crop=[4, 20]")
    readouts = load_readouts(tmp_path / "runs", input_size="18x32", tokens="tuned")
    assert readouts.grid == (9, 16, 6)


def test_a_memory_limit_that_a_network_exceeds_is_refused(tmp_path, capsys):
    path = experiment(tmp_path)
    assert baseline(path, "run.memory_limit=100MB") == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "run.memory_limit leaves 100.0 MB to cnn_fullmodel of mouse" in told
    assert "lower baseline.batch_size" in told
    assert not (load_experiment(path).output / "results").exists()


@pytest.mark.parametrize("executor", ["local", "dask"])
def test_recordings_are_trained_side_by_side(tmp_path, executor):
    """Two fullmodels at a time, then the minimodels that start from them: the same numbers."""
    path = experiment(tmp_path)
    text = path.read_text()
    table = text[text.index("[recording]") : text.index("[stimuli]")]
    both = table.replace("[recording]", "[[recording]]")
    path.write_text(text.replace(table, both + both.replace('name = "mouse"', 'name = "second"')))
    for name, workers in ("one", 1), ("two", 2):
        run = f"run.output={tmp_path / name}", f"run.workers={workers}", f"run.executor={executor}"
        assert baseline(path, f"stimuli.path={tmp_path / 'mouse'}", *run) == 0
    one, two = (pd.read_parquet(tmp_path / n / "results/neurons.parquet") for n in ("one", "two"))
    assert set(one["recording"]) == {"mouse", "second"}
    pd.testing.assert_frame_equal(one, two)


def test_an_interrupted_run_goes_on_exactly(tmp_path, monkeypatch, capsys):
    whole, parts = experiment(tmp_path / "a"), experiment(tmp_path / "b")
    trained(whole, FULL)
    with monkeypatch.context() as patch:
        save = Checkpoint.save
        patch.setattr(Checkpoint, "save", lambda *state: _stop_after(save(*state)))
        assert baseline(parts, FULL) == 130
    assert "goes on from here" in capsys.readouterr().err
    (checkpoint,) = (tmp_path / "b/runs/checkpoints").iterdir()
    assert not (tmp_path / "b/runs/results").exists()
    trained(parts, FULL)
    assert not checkpoint.exists()
    (one,), (other,) = ((tmp_path / n / "runs/tuned").iterdir() for n in "ab")
    assert one.name == other.name and one.read_bytes() == other.read_bytes()


def _stop_after(saved):
    raise KeyboardInterrupt


def refused(capsys, path, *settings):
    before = set(path.parent.rglob("*"))
    assert baseline(path, *settings) == 2
    err = capsys.readouterr().err.strip()
    assert err.startswith("vitv1: ") and "\n" not in err
    assert set(path.parent.rglob("*")) == before
    return err


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("baseline.kernels=[4, 3]", "must be odd"),
        ("baseline.models=['cnn_minimodel']", 'add "cnn_fullmodel"'),
        ("baseline.models=['cnn']", "expected 'cnn_fullmodel', 'cnn_minimodel' or 'cnn_vit'"),
        ("baseline.kernel=[5, 3]", 'did you mean "kernels"'),
        ("baseline.minimodel.chanels=3", 'did you mean "channels"'),
        ("baseline.crop=[0, 65]", "have 24 columns"),
        ("baseline.input_size=[1, 64]", "pools 2 x 2 pixels"),
        ("recording.path=absent", "absent: no such file or folder"),
        ("run.device=cuda:99", "cannot be used here"),
    ],
)
def test_bad_settings(tmp_path, capsys, setting, message):
    assert message in refused(capsys, experiment(tmp_path), setting)


def test_no_table(tmp_path, capsys):
    path = write_experiment(tmp_path)
    assert "has no [baseline] table" in refused(capsys, path)


def test_a_diverging_training_exits_1_and_names_the_epoch(tmp_path, capsys):
    path = experiment(tmp_path)
    assert baseline(path, "baseline.learning_rate=1e30") == 1
    assert "the training loss is" in (err := capsys.readouterr().err) and "epoch" in err
    assert not (tmp_path / "runs/results").exists()


def test_the_condition_says_what_it_depends_on(finished):
    file = load_experiment(finished)
    first, second = up_to_date(finished)
    keys = {saved_attributes(file.output, c)["key"] for c in (first, second)}
    assert len(keys) == 2
    assert up_to_date(finished, "baseline.momentum=0.5") == []
