"""Whole commands on backbones that are no plain ViTs: run, plan, rates of images, refusals."""

import json

import numpy as np
import pytest
from support.tiny import write_experiment

from cache import open_cache, verify
from pipeline.cli.main import main
from pipeline.experiment import load_experiment
from pipeline.plan.make import extraction
from pipeline.variant.together import open_variants
from stages import load_model
from stages.backbones import image_operations
from stages.fit.conditions import fit_tasks, planned_fits
from stages.fit.cost import planned_size
from stages.fit.inputs import TaskSource
from stages.fit.run import fit_condition
from stages.readouts import load_readouts, save_condition, saved_places


@pytest.fixture
def file(tmp_path):
    path = write_experiment(tmp_path)
    path.write_text(path.read_text().replace("arguments =", "# arguments ="))
    return path


def chosen(*settings):
    return [part for each in settings for part in ("--set", each)]


SWIN = ("backbone.name=swin_tiny_patch4_window7_224", "backbone.arguments={embed_dim=24}")
QUICK = ("readout.solver=als", "readout.als.max_components=8")


def test_a_run_from_images_to_figures(file, capsys):
    settings = chosen(*SWIN, *QUICK)
    assert main(["run", str(file), "--dry-run", *settings]) == 0
    said = "features.zarr: tokens of blocks 0-3, by channels: 8x16 of 24, 4x8 of 48, 2x4 of 96, "
    assert said in capsys.readouterr().out
    (variant,) = open_variants(load_experiment(file, settings[1::2]))
    work = extraction(variant).work
    assert work.operations > image_operations(work.tokens)
    assert main(["run", str(file), *settings, "--quiet"]) == 0
    run = file.parent / "runs"
    cache = open_cache(run / "features.zarr")
    assert verify(run / "features.zarr").faults == [] and cache.kinds == ["patches"]
    for block, grid in enumerate([(8, 16), (4, 8), (2, 4), (1, 2)]):
        saved = load_readouts(run, tokens="patch", block=block)
        assert saved_places(run, saved.condition) == cache.block(block).places
        assert saved.grid == (*grid, 24 * 2**block)
    assert main(["cache", "info", str(run / "features.zarr")]) == 0
    assert "8x16x24" in capsys.readouterr().out
    assert main(["run", str(file), *settings, "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert {step["state"] for step in plan["steps"]} == {"up to date"}


@pytest.mark.parametrize("name", ["test_convnext", "test_resnet"])
def test_readouts_of_every_grid_predict_from_pixels_as_from_the_cache(file, name, capsys):
    settings = (f"backbone.name={name}", *QUICK)
    assert main(["extract", str(file), *chosen(*settings), "--quiet"]) == 0
    run, (variant,) = file.parent / "runs", open_variants(load_experiment(file, settings))
    cache = open_cache(run / "features.zarr")
    planned = {
        p.condition: planned_size(p) for p in planned_fits(variant, variant.settings.readout)
    }
    for task in fit_tasks(variant, variant.settings.readout):
        size = planned[task.condition]
        assert TaskSource(task).size == size
        save_condition(run, fit_condition(task))
    assert len(planned) == cache.n_blocks
    block = cache.n_blocks - 2
    ids = cache.image_ids[:4]
    expected = load_readouts(run, block=block).predict_from(cache, images=ids)
    found = load_model(run, block=block).predict(variant.stimuli.read(ids))
    np.testing.assert_allclose(found, expected, rtol=0.01)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["readout.tokens=['cls']"], 'readout.tokens = "cls": test_convnext has no CLS token'),
        (["readout.joint_blocks=[[0, 2]]"], "their grids are 8x16, 2x4: join blocks of one grid"),
        (["readout.blocks=[4]"], "block 4 of 4"),
        (["backbone.stride=8"], "no square patches of its own: drop it"),
        (["stimuli.input_size=[8, 16]"], "cannot see an image of 8x16"),
    ],
)
def test_what_such_a_backbone_cannot_do_is_refused_in_one_line(file, settings, told, capsys):
    assert main(["run", str(file), *chosen("backbone.name=test_convnext", *settings)]) == 2
    said = capsys.readouterr().err.strip()
    assert told in said and "\n" not in said
    assert not (file.parent / "runs").exists()


def test_a_sweep_reads_of_each_backbone_what_it_has(file, capsys):
    both = chosen('backbone.name=["vit_small_patch16_dinov3", "test_convnext"]')
    assert main(["run", str(file), "--dry-run", "--json", *both]) == 0
    steps = json.loads(capsys.readouterr().out)["steps"]
    found = {(c["model"], c["tokens"]) for step in steps if (c := step["condition"])}
    assert found == {
        ("vit_small_patch16_dinov3", "patch"),
        ("vit_small_patch16_dinov3", "cls"),
        ("test_convnext", "patch"),
    }
