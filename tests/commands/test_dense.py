"""Whole commands on strides and random weights: sweeps, plans, places, refusals."""

import pytest
from support.tiny import write_experiment

from cache import Places
from pipeline.cli.main import main
from pipeline.experiment import load_experiment
from pipeline.variant.together import open_variants
from stages.fit.conditions import fit_tasks
from stages.fit.run import fit_condition
from stages.readouts import save_condition, saved_places


@pytest.fixture
def file(tmp_path):
    return write_experiment(tmp_path)


def test_strides_stand_beside_each_other_in_plan_and_results(file, capsys):
    chosen = ("backbone.stride=[16, 8]", "readout.solver=als", "readout.blocks=[1]")
    sweep = [part for each in chosen for part in ("--set", each)]
    assert main(["run", str(file), "--dry-run", *sweep]) == 0
    said = capsys.readouterr().out
    assert "4x8 tokens, centres every 8 pixels from 8 on, 4 passes per image" in said
    assert said.count("passes per image") == 1
    assert main(["extract", str(file), "--quiet", *sweep]) == 0
    run, models = file.parent / "runs", []
    for variant in open_variants(load_experiment(file, chosen)):
        task = next(fit_tasks(variant, variant.settings.readout))
        save_condition(run, fit_condition(task))
        models.append(task.condition.model.partition("+")[2])
    assert models == ["stride16", "stride8"]
    assert saved_places(run, task.condition) == Places(stride=(8, 8), first_centre=(8, 8), passes=4)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["backbone.stride=5"], "stride = 5 does not divide the patch size 16x16"),
        (["backbone.dense=shift"], 'dense = "shift" needs a stride'),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(file, settings, told, capsys):
    chosen = [part for each in settings for part in ("--set", each)]
    assert main(["run", str(file), *chosen]) == 2
    said = capsys.readouterr().err.strip()
    assert told in said and "\n" not in said
    assert not (file.parent / "runs").exists()
