"""`cnn_vit` in whole commands: rows, pixels to rates, what is up to date, and what is refused."""

import shutil

import numpy as np
import pytest
import zarr
from support.runs import only_variant, plan_of, run_stage
from support.tiny import write_experiment

from cache import UserError, open_cache, plan_copy, pull
from pipeline.cli.main import main
from pipeline.experiment import load_experiment
from pipeline.results.tables import read_neurons, read_summary
from stages import load_model
from stages.readouts import load_readouts
from stages.training.checkpoints import Checkpoint

pytestmark = pytest.mark.usefixtures("no_figures")

TABLE = """
[baseline]
models = ["cnn_fullmodel", "cnn_vit"]
blocks = [-1, 0]
kernels = [5, 3]
channels = [4, 6]
batch_size = 8
epochs = [2, 1]
"""

ONE = "baseline.models=['cnn_vit']", "baseline.blocks=[2]"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = write_experiment(tmp_path_factory.mktemp("beside"), shape=(16, 24), n_neurons=3)
    path.write_text(path.read_text() + TABLE)
    assert main(["extract", str(path), "--quiet"]) == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.commands.report_run", lambda run, terminal: [run / "report.html"])
        assert main(["baseline", str(path), "--quiet"]) == 0
    return path


@pytest.fixture
def extracted(finished, tmp_path):
    """An experiment of its own with the recording and the cache, and no results."""
    shutil.copytree(finished.parent / "mouse", tmp_path / "mouse")
    path = tmp_path / "mouse.toml"
    runs = finished.parent / "runs"
    path.write_text(finished.read_text().replace(str(runs), str(tmp_path / "runs")))
    shutil.copytree(runs / "features.zarr", tmp_path / "runs/features.zarr")
    return path


def baseline(path, *settings):
    options = [text for setting in settings for text in ("--set", setting)]
    return main(["baseline", str(path), "--quiet", *options])


def trained(path, *settings):
    run_stage(load_experiment(path, settings), "baseline")
    return sorted((path.parent / "runs/tuned").iterdir())


def test_each_block_is_a_row_beside_the_cnn(finished):
    run = finished.parent / "runs"
    summary = read_summary(run)
    assert summary["model"].tolist() == ["cnn_fullmodel", *2 * ["cnn_vit+vit_small_patch16_dinov3"]]
    beside = summary[summary["tuning"] == "core"]
    assert beside["block"].tolist() == [0, 2] and set(beside["tokens"]) == {"patch"}
    assert set(beside["input_size"]) == {"16x24+32x64"}
    neurons = read_neurons(run).query("tuning == 'core'")
    assert set(neurons["weights"]) == {"random"}
    assert set(neurons["cache_key"]) == {open_cache(str(run / "features.zarr")).key}


def test_some_backbones_of_a_sweep(finished):
    settings = [
        "backbone.stride=[16, 8]",
        "baseline.backbones=['vit_small_patch16_dinov3+stride8']",
    ]
    plan = plan_of(finished, *settings)
    beside = {step.condition.model for step in plan.steps if "cnn_vit" in str(step.condition)}
    assert beside == {"cnn_vit+vit_small_patch16_dinov3+stride8"}


def test_it_is_up_to_date_and_the_cnn_does_not_know_of_it(finished):
    steps = list(plan_of(finished).of("baseline"))
    assert [step.state for step in steps] == 3 * ["up to date"]
    settings = "baseline.models=['cnn_fullmodel']", "readout.blocks=[1]"
    (step,) = plan_of(finished, *settings).of("baseline")
    assert step.state == "up to date"
    assert {"cache", "vit", "blocks"}.isdisjoint({*step.task.inputs, *step.task.inputs["settings"]})


def test_pixels_give_the_saved_rates(finished):
    """Through both networks; the cache's tokens are rounded to float16."""
    run, variant = finished.parent / "runs", only_variant(finished)
    model = load_model(run, tuning="core", block=2)
    saved = zarr.open_group(str(run / "results/predictions.zarr"), mode="r")
    (own,) = [name for name in saved if "-block2-" in name]
    raw = variant.stimuli.read(saved[own]["image"][:])
    np.testing.assert_allclose(model.predict(raw), saved[own]["test"][:], rtol=2e-3)
    pixels = model.module.scale.new_tensor(raw).requires_grad_()
    model.module(pixels).sum().backward()
    assert pixels.grad.abs().amax(dim=(1, 2)).min() > 0


def test_its_readouts_are_not_those_of_frozen_tokens(finished):
    run = finished.parent / "runs"
    with pytest.raises(UserError, match="features of a CNN beside those of a backbone"):
        load_readouts(run, block=2)
    assert load_readouts(run, block=2, tokens="tuned").grid == (8, 12, 6 + 48)


def test_the_price_counts_the_tokens(finished):
    steps = {step.condition.block: step for step in plan_of(finished).of("baseline")}
    alone, beside = steps[None], steps[2]
    settings = beside.variant.settings
    costs = [step.stage.cost(step.planned, settings, None, n_planned=1) for step in (alone, beside)]
    assert costs[1].n_bytes == 19 * 2 * 4 * 48 * 2 and costs[0].n_bytes == 0
    assert costs[1].core_seconds > costs[0].core_seconds and costs[1].memory > costs[0].memory


def test_an_interrupted_training_goes_on_exactly(finished, extracted, monkeypatch):
    with monkeypatch.context() as patch:
        save = Checkpoint.save
        patch.setattr(Checkpoint, "save", lambda *state: _stop_after(save(*state)))
        assert baseline(extracted, *ONE) == 130
    (checkpoint,) = (extracted.parent / "runs/checkpoints").iterdir()
    # Where memory is short, tokens come from a disk: the same numbers.
    monkeypatch.setattr("stages.baseline.task.BaselineTask.needed_memory", 10**12)
    monkeypatch.setattr("stages.costs.MemoryLimit.require", lambda *told, **more: None)
    (other,) = trained(extracted, *ONE)
    assert not checkpoint.exists()
    (one,) = (finished.parent / "runs/tuned").glob("*-block2-*")
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
        ("baseline.blocks=[3]", "baseline.blocks: vit_small_patch16_dinov3 has no block 3 of 3"),
        ("baseline.blocks=[0, 0]", "baseline.blocks"),
        ("baseline.backbones=['swin']", 'has no "swin": it has vit_small_patch16_dinov3'),
        ("cache.path=absent.zarr", "absent.zarr: no feature cache there; make it with vitv1"),
        ("backbone.seed=1", "holds other tokens than this experiment names"),
    ],
)
def test_bad_settings(extracted, capsys, setting, message):
    assert message in refused(capsys, extracted, setting)


def test_caches_without_what_is_read(extracted, capsys):
    source = open_cache(str(extracted.parent / "runs/features.zarr"))
    for name, blocks, kinds in ("cls", [0, 2], ["cls"]), ("part", [0], ["patches"]):
        pull(plan_copy(source, blocks=blocks, kinds=kinds), extracted.parent / name)
    read = "readout.blocks=[0]"
    said = refused(capsys, extracted, f"cache.path={extracted.parent / 'cls'}", read)
    assert 'holds cls but no patches, which "cnn_vit" reads: name a cache' in said
    said = refused(capsys, extracted, f"cache.path={extracted.parent / 'part'}", read)
    assert "holds blocks [0] of 3, not 2" in said


def test_a_cache_of_other_pictures(extracted, capsys):
    for path in (extracted.parent / "mouse/data/images").iterdir():
        np.save(path, 255 - np.load(path))
    said = refused(capsys, extracted)
    assert "features.zarr" in said and "images" in said
