"""Whole commands on combined readouts: run, tables, rates of images, plans, refusals."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from support.tiny import write_experiment

from cache import BlockShape, CacheError, Places, UserError, open_cache
from pipeline.cli.main import main
from pipeline.experiment import load_experiment
from pipeline.variant.together import open_variants
from stages import load_model
from stages.fit.combined import Combined
from stages.fit.conditions import planned_fits
from stages.fit.cost import planned_size
from stages.fit.inputs import TaskSource
from stages.readouts import load_readouts, saved_attributes, saved_places
from stages.registry import STAGES
from stages.tokens.combination import Combination, CombinedBlock

TWO = "test_vit:5 + test_convnext:0"
ONE = "test_convnext:0 + test_convnext:2 (bilinear)"
CLS = "test_vit:1 + test_vit:0"
COMBINE = """
als = { max_components = 6, max_rounds = 3 }
blocks = [0]
tokens = ["patch"]

[[readout.combine]]
sources = ["test_vit:-1", "test_convnext:0"]

[[readout.combine]]
sources = ["test_convnext:0", "test_convnext:2"]
resample = "bilinear"

[[readout.combine]]
sources = ["test_vit:1", "test_vit:0"]
tokens = "cls"
"""


def experiment(folder):
    path = write_experiment(folder, n_train=40, n_validation=8, n_neurons=3)
    text = path.read_text().replace("arguments =", "# arguments =")
    text = text.replace('"vit_small_patch16_dinov3"', '["test_vit", "test_convnext"]')
    text = text.replace('solver = "adamw"', "").replace("adamw = { max_epochs = 3 }", COMBINE)
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = experiment(tmp_path_factory.mktemp("mouse"))
    assert main(["run", str(path), "--quiet"]) == 0
    return path


@pytest.fixture
def new(tmp_path):
    return experiment(tmp_path)


def caches(file):
    names = ("test_vit", "test_convnext")
    return [open_cache(file.parent / f"runs/features-{name}-32x64.zarr") for name in names]


def test_combined_conditions_stand_in_the_tables_by_their_sources(file, capsys):
    run = file.parent / "runs"
    summary = pd.read_csv(run / "results/summary.csv")
    assert summary["model"].tolist() == ["test_vit", TWO, CLS, "test_convnext", ONE]
    combined = summary[summary["model"].isin([TWO, ONE, CLS])]
    assert combined[["block", "blocks"]].isna().all(axis=None)
    assert combined["tokens"].tolist() == ["patch", "cls", "patch"]
    neurons = pd.read_parquet(run / "results/neurons.parquet")
    keys = neurons[neurons["model"] == TWO]["cache_key"].unique()
    assert keys.tolist() == ["+".join(cache.key for cache in caches(file))]
    assert "test_vit block 5 + test_convnext block 0" in (run / "report.html").read_text()
    assert main(["run", str(file), "--dry-run", "--json"]) == 0
    steps = json.loads(capsys.readouterr().out)["steps"]
    assert {step["state"] for step in steps} == {"up to date"}
    (step,) = (s for s in steps if s["condition"] and s["condition"]["model"] == TWO)
    assert len(step["needs"]) == 2


def test_plans_have_the_sizes_that_are_read(file):
    for variant in open_variants(load_experiment(file)):
        planned = {p.condition: p for p in planned_fits(variant, variant.settings.readout)}
        tasks = [task for task in STAGES[0].tasks(variant) if task.combined is not None]
        assert tasks
        for task in tasks:
            size = planned_size(planned[task.condition])
            assert TaskSource(task).size == size
            assert saved_places(file.parent / "runs", task.condition) == task.places
    # 73 images are read as they are stored: 2 x 4 tokens of 64 channels, 8 x 16 of 24.
    (two,) = (
        p
        for p in planned_fits(open_variants(load_experiment(file))[0], variant.settings.readout)
        if p.condition.model == TWO
    )
    assert two.work.n_bytes == (two.work.trials + two.work.test_images) * 2 * (8 * 64 + 128 * 24)


@pytest.mark.parametrize(("model", "grid"), [(TWO, (8, 16, 88)), (ONE, (8, 16, 72)), (CLS, None)])
def test_rates_from_pixels_are_those_of_the_caches(file, model, grid):
    run, every = file.parent / "runs", caches(file)
    saved = load_readouts(run, model=model)
    if grid is not None:
        assert saved.grid == grid
    ids = every[0].image_ids[:5]
    own = {"2": every[::-1], "1": [every[1]], "c": every[0]}
    given = own["2" if model == TWO else "1" if model == ONE else "c"]
    expected = saved.predict_from(given, images=ids)
    stimuli = open_variants(load_experiment(file))[0].stimuli
    found = load_model(run, model=model).predict(stimuli.read(ids))
    np.testing.assert_allclose(found, expected, rtol=0.01)


def test_readouts_of_a_combination_refuse_other_tokens(file, tmp_path):
    run, (vit, convnext) = file.parent / "runs", caches(file)
    saved = load_readouts(run, model=TWO)
    with pytest.raises(UserError, match="pass all caches in a list"):
        saved.predict_from(vit)
    with pytest.raises(UserError, match="open the cache of their run"):
        load_readouts(run, model=ONE).predict_from([vit, convnext])
    with pytest.raises(UserError, match=f"block {TWO}".replace("+", r"\+")):
        saved.predict(convnext.block(0).array("patches"))
    with pytest.raises(UserError, match="weights= names one file"):
        load_model(run, model=TWO, weights=tmp_path / "weights.safetensors")


def test_a_saved_condition_names_its_sources(file):
    slug = "mouse-test_vit_5_+_test_convnext_0-32x64-frozen-patch-als-seed0"
    saved = saved_attributes(file.parent / "runs", slug)
    assert [s["grid"] for s in saved["inputs"]["combined"]["sources"]] == [[2, 4], [8, 16]]
    assert saved["weights"] == "random"
    names = [each["backbone"]["name"] for each in saved["network"]["networks"]]
    assert names == ["test_vit", "test_convnext"]


def test_fine_tuning_starts_from_no_combination(file):
    chosen = ("backbone.name=test_vit", "finetune.last=[1]",
              "readout.combine=[{sources=['test_vit:0','test_vit:1']}]")  # fmt: skip
    (variant,) = open_variants(load_experiment(file, chosen))
    models = [[each.condition.model for each in stage.conditions(variant)] for stage in STAGES[:2]]
    assert models == [["test_vit", "test_vit:0 + test_vit:1"], ["test_vit"]]


def test_a_fit_needs_the_caches_of_all_sources(file, capsys):
    there = file.parent / "runs/features-test_convnext-32x64.zarr"
    there.rename(file.parent / "elsewhere.zarr")
    try:
        assert main(["fit", str(file)]) == 2
    finally:
        (file.parent / "elsewhere.zarr").rename(there)
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "features-test_convnext-32x64.zarr: no feature cache there" in said


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("readout.combine=[{sources=['test_vit:5']}]", "expected a list of 2 values"),
        ("readout.combine=[{sources=['test_vit:5','test_vit']}]", 'expected "backbone:block"'),
        ("readout.combine=[{sources=['test_vit:5','test_vit:-1']}]", "test_vit:5 is named twice"),
        ("readout.combine=[{sources=['test_vit:5','resnet:0']}]", 'gives "resnet:0": it has test_'),
        ("readout.combine=[{sources=['test_vit:6','test_convnext:0']}]", "test_vit: block 6 of 6"),
        (
            "readout.combine=[{sources=['test_vit:5','test_convnext:0'],tokens='cls'}]",
            "test_convnext has no CLS token",
        ),
        (
            "readout.combine=[{sources=['test_vit:5','test_convnext:0']},"
            "{sources=['test_vit:-1','test_convnext:0']}]",
            f"{TWO} is named twice",
        ),
        ("finetune.blocks=['test_vit:5']", "starts from one backbone, not from a combined"),
    ],
)
def test_bad_input_is_refused_in_one_line(new, setting, told, capsys):
    assert main(["run", str(new), "--set", setting]) == 2
    said = capsys.readouterr().err.strip()
    assert told in said and "\n" not in said
    assert not (new.parent / "runs").exists()


@pytest.mark.parametrize("hashed", [True, False])
def test_sources_of_different_images_are_refused(hashed):
    def variant(images):
        settings = {"preprocessing": {"crop": [0, 64]}, **({} if hashed else {"images": images})}
        tokens = SimpleNamespace(
            path=f"{images}.zarr", key=images, settings=settings, block=lambda index: None,
            rows=lambda ids: None, images_digest=lambda ids: images if hashed else None,
        )  # fmt: skip
        return SimpleNamespace(tokens=tokens)

    places = Places(stride=(8, 8), first_centre=(4, 4))
    shape = BlockShape(grid=(1, 1), n_channels=2, places=places)
    one = CombinedBlock(model="a", block=0, shape=shape, dtype="float16")
    both = Combination(sources=(one, replace(one, model="b")), tokens="patch", resample="nearest")
    with pytest.raises(CacheError, match="a:0 and b:0 are of different images"):
        Combined(both, [variant("these"), variant("those")]).known(np.arange(3))
    assert Combined(both, [variant("these"), variant("these")]).known(np.arange(3)) is not None
