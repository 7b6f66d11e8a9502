"""Runs of earlier versions: whole ones are up to date, and their tables are read."""

import json

import numpy as np
import pytest
from support.earlier import earlier_run, python

from cache import open_cache
from pipeline.results.tables import read_curves, read_neurons, read_summary
from stages.readouts import load_readouts


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return earlier_run(tmp_path_factory.mktemp("earlier"))


def test_nothing_but_its_report_is_to_be_done(run):
    plan = json.loads(
        python(run, "-m", "pipeline", "run", "--dry-run", "--json", "experiment.toml")
    )
    assert len(plan["steps"]) == 14
    assert [s["name"] for s in plan["steps"] if s["state"] != "up to date"] == [
        "output/report.html"
    ]


def test_predictions_of_another_fit_are_named(run):
    (path,) = (run / "output/results/predictions.zarr").glob("*frozen-patch-block1-als*/zarr.json")
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"key": "', b'"key": "0'))
    plan = json.loads(
        python(run, "-m", "pipeline", "run", "--dry-run", "--json", "experiment.toml")
    )
    path.write_bytes(whole)
    (step, _) = (s for s in plan["steps"] if s["state"] != "up to date")
    assert step["reason"].endswith("is of another fit than the readouts")


def test_its_tables_are_read(run):
    summary, neurons = read_summary(run / "output"), read_neurons(run / "output")
    assert len(summary) == 12 and len(neurons) == 12 * 4
    assert set(summary["tuning"]) == {"frozen", "last0", "last1", "full"}
    assert np.isfinite(neurons["test_correlation"]).all()
    assert set(read_curves(run / "output")["model"]) >= {"cnn_fullmodel", "cnn_minimodel"}


def test_its_readouts_predict_what_it_predicted(run):
    """From its cache, with its weights: no other numbers than those it saved."""
    cache = open_cache(str(run / "output/features.zarr"))
    import zarr

    saved = load_readouts(run / "output", tuning="frozen", tokens="patch", block=1, blocks="1",
                          solver="als")  # fmt: skip
    predictions = zarr.open_group(str(run / "output/results/predictions.zarr"), mode="r")
    (name,) = [n for n in predictions if "frozen-patch-block1-als" in n]
    tokens = cache.block(1).read("patches", images=predictions[name]["image"][:])
    np.testing.assert_allclose(saved.predict(tokens), predictions[name]["test"][:], rtol=1e-5)


def test_a_run_protects_it_draws_it_anew_and_does_nothing_else(run):
    """It has no manifests; planning makes none, a run makes them."""
    before = {p: p.stat().st_mtime_ns for p in (run / "output").rglob("*") if p.is_file()}
    assert not (run / "output/results/manifests").exists()
    python(run, "-m", "pipeline", "run", "--quiet", "experiment.toml")
    after = {p: p.stat().st_mtime_ns for p in (run / "output").rglob("*") if p.is_file()}
    drawn = {run / "output/report.html", *(run / "output/figures").iterdir()}
    made = {path.name for path in after.keys() - before.keys() - drawn}
    assert len(made) == 12 + 2 and {"tables.json", "report.json"} <= made
    changed = {path for path in before if after[path] != before[path]}
    assert run / "output/report.html" in changed and changed <= drawn
    plan = json.loads(
        python(run, "-m", "pipeline", "run", "--dry-run", "--json", "experiment.toml")
    )
    assert {step["state"] for step in plan["steps"]} == {"up to date"}
