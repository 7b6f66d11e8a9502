"""Runs of earlier versions: what is outdated of them and why, and that all else is read.

The tunings of version 0.1 under the published protocol could end as they began.
"""

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


def to_do(run):
    """Why steps are to be done, by their names."""
    plan = json.loads(
        python(run, "-m", "pipeline", "run", "--dry-run", "--json", "experiment.toml")
    )
    assert len(plan["steps"]) == 14
    return {s["name"]: s["reason"] for s in plan["steps"] if s["state"] != "up to date"}


def test_nothing_but_its_tunings_is_to_be_done(run):
    *tunings, (report, _) = to_do(run).items()
    assert len(tunings) == 3 and report.endswith("report.html")
    assert all("-minimodel-vit-" in name for name, _ in tunings)
    assert {why for _, why in tunings} == {"finetune.protocol.start_counts: null -> false"}


def test_predictions_of_another_fit_are_named(run):
    (path,) = (run / "output/results/predictions.zarr").glob("*frozen-patch-block1-als*/zarr.json")
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"key": "', b'"key": "0'))
    reasons = to_do(run)
    path.write_bytes(whole)
    (reason,) = (why for name, why in reasons.items() if "-frozen-" in name)
    assert reason.endswith("is of another fit than the readouts")


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


def test_a_run_tunes_again_draws_anew_and_does_nothing_else(run):
    """It has no manifests; planning makes none, a run makes them."""
    before = {p: p.stat().st_mtime_ns for p in (run / "output").rglob("*") if p.is_file()}
    assert not (run / "output/results/manifests").exists()
    python(run, "-m", "pipeline", "run", "--quiet", "experiment.toml")
    after = {p: p.stat().st_mtime_ns for p in (run / "output").rglob("*") if p.is_file()}
    drawn = {run / "output/report.html", *(run / "output/figures").iterdir()}
    made = {p.name for p in after.keys() - before.keys() - drawn if p.parent.name == "manifests"}
    assert len(made) == 12 + 2 and {"tables.json", "report.json"} <= made
    changed = {path for path in before if after.get(path) != before[path]}
    assert run / "output/report.html" in changed
    # Its best epochs were epochs, so that no number has changed; seconds have.
    times = {run / "output/provenance.json", run / "output/results/summary.csv"}
    assert {path for path in changed - drawn if "-minimodel-vit-" not in str(path)} == times
    assert to_do(run) == {}
