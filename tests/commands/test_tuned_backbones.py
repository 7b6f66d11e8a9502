"""Whole commands that tune other backbones than plain ViTs, several passes, and a control."""

import numpy as np
import pandas as pd
import pytest
import timm
from matplotlib.text import Text
from safetensors.torch import save_file
from support.tiny import FAMILIES, write_experiment
from support.tuning_runs import flags, refused

from cache import open_cache
from pipeline.cli.main import main
from pipeline.experiment import load_experiment
from pipeline.report.figures import Tables, wanted_figures
from pipeline.results.tables import read_summary
from pipeline.variant.together import open_variants
from stages import load_model
from stages.readouts import load_readouts, saved_predictions
from stages.readouts.manifest import saved_attributes

pytestmark = pytest.mark.usefixtures("no_figures")

TUNED = (
    *("finetune.last=[0, 1]", "finetune.blocks=[1]", 'finetune.tokens=["patch"]'),
    *("finetune.epochs=2", "finetune.readout_rate=0.1", "finetune.backbone_rate=1e-2"),
    *("readout.blocks=[1]", "readout.tokens=['patch']"),
)


@pytest.fixture
def file(tmp_path):
    path = write_experiment(tmp_path, n_train=24, n_validation=8)
    path.write_text(path.read_text().replace("depth = 3", "depth = 2"))
    return path


@pytest.mark.parametrize(
    ("settings", "starts", "trained"),
    [
        (
            ("backbone.name=swin_tiny_patch4_window7_224", "backbone.arguments={embed_dim=24}"),
            ["cache", "cache"],
            "vit.layers.1.",
        ),
        # A cache has no CLS and registers of shifted images.
        (("backbone.stride=8",), ["cache", "images"], "vit.blocks.1."),
    ],
)
def test_what_is_tuned_predicts_from_pixels_as_it_did(file, settings, starts, trained):
    chosen = (*settings, *TUNED)
    assert main(["run", str(file), *flags(*chosen), "--quiet"]) == 0
    run, (variant,) = file.parent / "runs", open_variants(load_experiment(file, chosen))
    cache = open_cache(run / "features.zarr")
    assert variant.layered and "family" in cache.provenance
    for tuning, start in zip(("last0", "last1"), starts, strict=True):
        saved = load_readouts(run, tuning=tuning, tokens="tuned")
        recorded = saved_attributes(run, saved.condition)
        assert recorded["start"] == start
        names = [name for name in recorded["trained"] if name.startswith("vit.")]
        assert bool(names) == (tuning == "last1")
        assert all(name.startswith(trained) for name in names)
        assert saved.grid == (*cache.block(1).shape.grid, cache.block(1).shape.n_channels)
        kept = saved_predictions(run, saved.condition)
        found = load_model(run, tuning=tuning).predict(variant.stimuli.read(kept.images))
        # But for the rounding of cached tokens.
        np.testing.assert_allclose(found, kept.predictions, rtol=1e-2, atol=1e-3)
        assert kept.predictions.std(axis=0).max() > 1e-2


def test_a_control_of_random_weights_is_tuned_and_drawn_beside_the_trained(file):
    recipe = FAMILIES["dinov3"]
    given = {**recipe["arguments"], "depth": 2, "img_size": (32, 64), "num_classes": 0}
    model = timm.create_model(recipe["name"], **given)
    save_file(model.state_dict(), file.parent / "mine.safetensors")
    both = f"backbone.weights=['{file.parent / 'mine.safetensors'}', 'random']"
    assert main(["run", str(file), *flags(both, *TUNED), "--quiet"]) == 0
    run = file.parent / "runs"
    summary = read_summary(run)
    name = recipe["name"]
    assert set(zip(summary["model"], summary["tuning"], strict=True)) == {
        (f"{name}+{weights}", tuning)
        for weights in ("mine", "random")
        for tuning in ("frozen", "last0", "last1")
    }
    neurons, curves = (pd.read_parquet(run / f"results/{t}.parquet") for t in ("neurons", "curves"))
    tables = Tables(run=run, neurons=neurons, summary=summary, curves=curves)
    drawn = dict(wanted_figures(tables))
    for figure in ("feve_per_block", "feve_by_tuning", "best_block_bars"):
        texts = " ".join(text.get_text() for text in drawn[figure]().findobj(Text))
        said = " ".join(texts.split())
        assert "random weights" in said and "weights mine" in said, figure


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (("backbone.name=test_convnext", "backbone.arguments={}"), "its layers are not defined"),
        (("backbone.name=beit_base_patch16_224",), "plain ViTs with or without CLS"),
        (("backbone.stride=8", "finetune.rope_rescale=2"), "a scale of its own"),
    ],
)
def test_what_cannot_be_tuned_is_refused_in_one_line(file, settings, told, capsys):
    assert told in refused(capsys, "run", str(file), *flags("finetune.last=[1]", *settings))
    assert not (file.parent / "runs").exists()


SYNTHETIC = (
    *("recording.format=synthetic", "recording.synthetic.n_training=4"),
    *("recording.synthetic.n_validation=2", "recording.synthetic.n_test=2"),
    *("recording.synthetic.block=1", "recording.synthetic.image_shape=[32, 64]"),
)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            ("backbone.name=test_convnext", "backbone.arguments={}"),
            "recording.synthetic.perturb with backbone.name",
        ),
        (("recording.synthetic.perturb.blocks=[2]",), "block 2 of 2"),
    ],
)
def test_a_backbone_that_cannot_be_moved_is_refused_before_extraction(file, settings, told, capsys):
    moved = "recording.synthetic.perturb={blocks=[1], amount=0.5}"
    said = refused(capsys, "run", str(file), *flags(*SYNTHETIC, moved, *settings))
    assert told in said and not (file.parent / "runs").exists()


def test_a_model_without_intermediate_outputs_is_refused_in_one_line(file, capsys, monkeypatch):
    monkeypatch.delattr("timm.models.convnext.ConvNeXt.forward_intermediates")
    name = flags("backbone.name=test_convnext", "backbone.arguments={}")
    said = refused(capsys, "run", str(file), *name)
    assert "has no intermediate outputs to read" in said
    assert not (file.parent / "runs").exists()
