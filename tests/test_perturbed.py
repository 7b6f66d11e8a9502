"""Neurons planted in a moved backbone, and that tuning recovers what freezing cannot."""

import numpy as np
import pytest
import torch
from tiny import FAMILIES

import pipeline.commands
from pipeline.cli import main
from pipeline.experiment import load_experiment
from pipeline.results import read_summary
from stages.backbones import create_backbone
from stages.perturbed import perturb
from stages.recordings.synthetic import Perturbation
from stages.settings import BackboneSettings


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch):
    monkeypatch.setattr(pipeline.commands, "show_report", lambda file, terminal: None)


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


EXPERIMENT = """
[recording]
format = "synthetic"
name = "moved"
[recording.synthetic]
n_training = 500
n_validation = 120
n_test = 60
n_neurons = 60
fev = 0.8
image_shape = [32, 64]
block = 2
n_components = 4
perturb = {{ blocks = [1, 2], amount = 0.8 }}
[stimuli]
input_size = [32, 64]
[backbone]
name = "vit_small_patch16_dinov3"
weights = "random"
arguments = {{ depth = 3, embed_dim = 48, num_heads = 3 }}
[readout]
tokens = ["patch"]
blocks = [2]
[finetune]
last = [0, 1, 2]
epochs = 12
backbone_rate = 1e-3
[run]
output = "{output}"
device = "cpu"
workers = 1
"""


def test_tuning_recovers_what_freezing_cannot(tmp_path):
    """The moved blocks are 1 and 2: last1 reaches one of them, last2 both, last0 none."""
    path = tmp_path / "moved.toml"
    path.write_text(EXPERIMENT.format(output=tmp_path / "runs"))
    assert main(["run", str(path), "--quiet"]) == 0
    feve = read_summary(tmp_path / "runs").set_index("tuning")["mean_feve"]
    assert feve["last2"] > feve["last1"] + 0.01 > feve["frozen"] + 0.02
    assert abs(feve["last0"] - feve["frozen"]) < 0.02
    (kept,) = (tmp_path / "runs").glob("planted-*.npz")
    before = kept.stat().st_mtime_ns
    assert main(["fit", str(path), "--quiet"]) == 0
    assert kept.stat().st_mtime_ns == before


def test_without_the_move_there_is_no_file_and_frozen_readouts_suffice(tmp_path):
    path = tmp_path / "still.toml"
    text = EXPERIMENT.replace("perturb = {{ blocks = [1, 2], amount = 0.8 }}\n", "")
    path.write_text(text.format(output=tmp_path / "runs"))
    assert load_experiment(path).variants[0].recording[0].synthetic.perturb is None
    for command in ("extract", "fit"):
        assert main([command, str(path), "--quiet"]) == 0
    assert not list((tmp_path / "runs").glob("planted-*.npz"))
    assert read_summary(tmp_path / "runs")["mean_feve"][0] > 0.85
