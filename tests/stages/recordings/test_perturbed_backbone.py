"""Moved backbones, the neurons planted in them, and the tuning that recovers these."""

from pathlib import Path

import numpy as np
import pytest
import torch
from support.runs import only_variant
from support.tiny import FAMILIES

from cache import CacheError
from pipeline.cli.main import main
from pipeline.experiment import load_experiment
from pipeline.results.tables import read_summary
from stages.backbones.backbone import create_backbone
from stages.backbones.settings import BackboneSettings
from stages.recordings import Perturbation
from stages.recordings.synthetic.perturbed_backbone import moved_tokens, perturb

pytestmark = pytest.mark.usefixtures("no_figures")

TINY = Path(__file__).parents[3] / "pipeline/experiments/tiny.toml"
LAST = ["last0", "last1", "last2", "last4", "full"]


def model(family="dinov3"):
    settings = BackboneSettings(weights="random", **FAMILIES[family])
    return create_backbone(settings, input_size=(32, 64)).model


def moved(amount, seed=0):
    changed = model()
    perturb(changed, Perturbation(blocks=(1, 2), amount=amount), seed=seed)
    return dict(changed.named_parameters())


@pytest.mark.parametrize("amount", [0.3, 0.7, 1.0])
def test_the_amount_is_the_distance_and_sizes_are_kept(amount):
    before, after = dict(model().named_parameters()), moved(amount)
    name = "blocks.1.mlp.fc1.weight"
    r = np.corrcoef(before[name].flatten(), after[name].flatten())[0, 1]
    assert r == pytest.approx(np.sqrt(1 - amount**2), abs=0.03)
    assert after[name].std().item() == pytest.approx(before[name].std().item(), rel=0.03)


def test_only_matrices_of_the_named_blocks_move():
    before, after = dict(model().named_parameters()), moved(0.5)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name.split(".")[1] for name in changed} == {"1", "2"}
    assert all(before[name].ndim == 2 and name.startswith("blocks.") for name in changed)
    assert "blocks.2.attn.qkv.weight" in changed and "blocks.2.attn.proj.weight" in changed


def test_the_seed_decides():
    one, same, other = moved(0.5), moved(0.5), moved(0.5, seed=1)
    name = "blocks.1.attn.qkv.weight"
    assert torch.equal(one[name], same[name]) and not torch.equal(one[name], other[name])


#: What makes pipeline/experiments/tiny.toml a matter of seconds.
SMALLER = (
    "recording.synthetic.n_training=600",
    "recording.synthetic.n_validation=120",
    "recording.synthetic.n_test=60",
    "recording.synthetic.n_neurons=60",
    "recording.synthetic.n_components=4",
    "recording.synthetic.fev=0.8",
    "recording.synthetic.image_shape=[32, 64]",
    "stimuli.input_size=[32, 64]",
    "backbone.arguments={ depth = 5, embed_dim = 48, num_heads = 3 }",
    "finetune.backbone_rate=5e-4",
    "finetune.epochs=8",
    "baseline.channels=[4, 8]",
    "baseline.epochs=[3, 1]",
    "baseline.threads=1",
    "run.device=cpu",
    "run.workers=1",
)


def run(command, path, output, *settings):
    """A command on a smaller form of an experiment file."""
    settings = [*SMALLER, f"run.output={output}", *settings]
    flags = [text for setting in settings for text in ("--set", setting)]
    assert main([command, str(path), "--quiet", *flags]) == 0


def test_tuning_recovers_what_freezing_cannot(tmp_path):
    """The moved blocks are 3 and 4: last1 reaches one of them, last2 both, last0 none."""
    run("run", TINY, tmp_path)
    summary = read_summary(tmp_path)
    assert summary["tuning"].tolist() == [*["frozen"] * 5, *LAST, "full"]
    assert summary["model"].tolist() == [*["vit_small_patch16_dinov3"] * 10, "cnn_fullmodel"]
    vit = summary[summary["model"] != "cnn_fullmodel"]
    frozen = vit[vit["tuning"] == "frozen"].set_index("block")["mean_feve"]
    tuned = vit[vit["tuning"] != "frozen"].set_index("tuning")["mean_feve"]
    assert tuned["last2"] > tuned["last1"] + 0.02 > frozen[4] + 0.04
    assert tuned["last2"] > frozen.max() + 0.02
    assert abs(tuned["last0"] - frozen[4]) < 0.01
    (kept,) = tmp_path.glob("planted-*.npz")
    before = kept.stat().st_mtime_ns
    run("fit", TINY, tmp_path)
    assert kept.stat().st_mtime_ns == before


def test_without_the_move_there_is_no_file_and_frozen_readouts_suffice(tmp_path):
    moved = "perturb = { blocks = [3, 4], amount = 0.4 }"
    text = TINY.read_text()
    assert text.count(moved) == 1
    path = tmp_path / "still.toml"
    path.write_text(text.replace(f", {moved}", ""))
    assert load_experiment(path).variants[0].recording[0].synthetic.perturb is None
    for command in ("extract", "fit"):
        run(command, path, tmp_path, "readout.blocks=[4]")
    assert not list(tmp_path.glob("planted-*.npz"))
    assert read_summary(tmp_path)["mean_feve"][0] > 0.85


def test_weights_that_are_not_the_cache_s_are_not_moved(tmp_path):
    flags = [*SMALLER, f"run.output={tmp_path}"]
    run("extract", TINY, tmp_path)
    variant = only_variant(TINY, *flags)
    settings = variant.settings.recording[0].synthetic
    cache = variant.cache.required()
    cache.settings["backbone"]["weights"]["seed"] = 7
    with pytest.raises(CacheError, match="of other weights than those to be moved"):
        moved_tokens(settings, cache=cache, variant=variant, keep=False)
