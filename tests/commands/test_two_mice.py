"""Two mice of one release that saw some images in common: one cache serves both."""

import json

import numpy as np
import pandas as pd
import pytest
from support.recording_files import write_minimodel

from cache import open_cache, verify
from pipeline.cli.main import main
from stages.backbones.backbone import Backbone

EXPERIMENT = """
[recording]
format = "minimodel"
path = "{name}.npz"
name = "{name}"

[stimuli]
path = "nat60k_text16.mat"
crop = [0, 64]
input_size = [32, 64]

[backbone]
name = "vit_small_patch16_dinov3"
weights = "random"
arguments = {{ depth = 3, embed_dim = 48, num_heads = 3 }}

[cache]
path = "shared.zarr"

[readout]
blocks = [1]
tokens = ["patch"]
als = {{ max_components = 8, max_rounds = 3 }}

[run]
output = "{folder}/{name}"
device = "cpu"
workers = 1
"""
IMAGES = {"one": np.arange(0, 40), "two": np.arange(20, 56)}
TEST = np.arange(56, 60)


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    folder = tmp_path_factory.mktemp("release")
    for name, shown in IMAGES.items():
        changes = {"istim_sp": shown, "istim_ss": TEST}
        write_minimodel(folder, name=f"{name}.npz", shape=(36, 64), n_images=60,
                        n_trials=len(shown), n_neurons=3, changes=changes)  # fmt: skip
        (folder / f"{name}.toml").write_text(EXPERIMENT.format(name=name, folder=folder))
    return folder


@pytest.fixture(scope="module")
def runs(release):
    """What each run computed, and the bytes of tokens before and after the second."""
    computed, sizes = [], []
    one_pass = Backbone.one_pass
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Backbone, "one_pass", lambda own, images: computed.append(len(images))
                      or one_pass(own, images))  # fmt: skip
        counts = {}
        for name in IMAGES:
            computed.clear()
            for command in ("extract", "fit"):
                assert main([command, str(release / f"{name}.toml"), "--quiet"]) == 0
            counts[name] = sum(computed)
            sizes.append(token_bytes(release / "shared.zarr"))
    return counts, sizes


def token_bytes(path):
    cache = open_cache(path)
    return len(cache.image_ids), [
        np.prod(cache.block(b).array(kind).shape) * 2 for b in cache.blocks for kind in cache.kinds
    ]


def states(release, name, capsys):
    capsys.readouterr()
    assert main(["run", str(release / f"{name}.toml"), "--dry-run", "--json"]) == 0
    steps = json.loads(capsys.readouterr().out)["steps"]
    return {step["state"] for step in steps if "report.html" not in step["name"]}


def test_the_second_extracts_only_its_own(release, runs):
    counts, ((n_first, first), (n_both, both)) = runs
    assert counts == {"one": 44, "two": 16}
    assert (n_first, n_both) == (44, 60)
    # Bytes, too: not one image's tokens are there twice.
    assert [b / 60 for b in both] == [f / 44 for f in first]
    assert not verify(release / "shared.zarr").faults


def test_what_was_added_outdates_nothing(release, runs, capsys):
    for name in IMAGES:
        assert states(release, name, capsys) == {"up to date"}


def test_results_are_those_of_a_cache_of_their_own(release, runs):
    """Trials are summed in the order of their images, wherever the cache has them."""
    experiment = str(release / "two.toml")
    own = ["--set", f"run.output={release}/own", "--set", f"cache.path={release}/own.zarr"]
    for command in ("extract", "fit"):
        assert main([command, experiment, "--quiet", *own]) == 0
    alone, shared = (
        pd.read_parquet(release / place / "results/neurons.parquet") for place in ("own", "two")
    )
    numbers = ["feve", "fev", "val_varexp"]
    # Batches of other images give tokens that differ by rounding.
    np.testing.assert_allclose(shared[numbers], alone[numbers], atol=2e-3)
    assert open_cache(release / "own.zarr").key == open_cache(release / "shared.zarr").key


def test_images_that_are_not_there_are_named(release, runs, capsys):
    """A cache that cannot be written to; one that holds other pictures under the same ids."""
    packed = release / "one.zarr.zip"
    own = ["--set", f"run.output={release}/first", "--set", f"cache.path={release}/one.zarr"]
    assert main(["extract", str(release / "one.toml"), "--quiet", *own]) == 0
    assert main(["cache", "pack", str(release / "one.zarr"), str(packed), "--quiet"]) == 0
    served = ["--set", f"cache.path={packed}"]
    assert main(["fit", str(release / "one.toml"), "--quiet", *served]) == 0
    capsys.readouterr()
    assert main(["fit", str(release / "two.toml"), *served]) == 2
    assert "lacks 16 of 40 images, and none can be added there" in capsys.readouterr().err


def test_other_pictures_under_the_same_ids_are_refused(release, runs, tmp_path, capsys):
    write_minimodel(tmp_path, name="two.npz", shape=(36, 64), n_images=60, n_trials=36, seed=1,
                    changes={"istim_sp": IMAGES["two"], "istim_ss": TEST})  # fmt: skip
    experiment = tmp_path / "two.toml"
    experiment.write_text(EXPERIMENT.format(name="two", folder=tmp_path))
    capsys.readouterr()
    shared = ["--set", f"cache.path={release}/shared.zarr"]
    assert main(["run", str(experiment), "--dry-run", *shared]) == 2
    assert "40 of 40 images are other pictures there" in capsys.readouterr().err
