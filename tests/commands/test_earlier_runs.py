"""Runs of earlier versions: what is outdated of them and why, and that all else is read.

Frozen fits of version 0.1 were rounded by the memory there was. Tunings start from them, and under
the published protocol they could end as they began.
"""

import json

import numpy as np
import pandas as pd
import pytest
from support.earlier import earlier_run, python

from cache import open_cache
from pipeline.results.tables import read_curves, read_neurons, read_summary
from stages.readouts import load_readouts

#: Parts of the names of conditions.
FIT, TUNING = "-frozen-", "-minimodel-vit-"


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


def test_its_fits_and_what_starts_from_them_are_to_be_done(run):
    """Neither its tokens nor its CNNs: their steps are not among these."""
    *conditions, (report, why) = to_do(run).items()
    assert report.endswith("report.html") and why == "the tables change"
    reasons = {kind: [w for name, w in conditions if kind in name] for kind in (FIT, TUNING)}
    assert len(conditions) == 7 + 3 and len(reasons[FIT]) == 7
    version = "this version of vitv1 computes otherwise"
    als = [why for why in reasons[FIT] if "readout.als" in why]
    assert als and all(why.endswith(version) and "refit: null -> true" in why for why in als)
    assert reasons == {
        FIT: [why if why in als else version for why in reasons[FIT]],
        TUNING: ["finetune.protocol.start_counts: null -> false; its frozen readouts change"] * 3,
    }


def test_predictions_of_another_fit_are_named(run):
    (path,) = (run / "output/results/predictions.zarr").glob("*cnn_fullmodel*/zarr.json")
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"key": "', b'"key": "0'))
    reasons = to_do(run)
    path.write_bytes(whole)
    (reason,) = (why for name, why in reasons.items() if "-cnn_fullmodel-" in name)
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


def test_a_run_does_what_is_outdated_and_nothing_else(run):
    """It has no manifests; planning makes none, a run makes them."""
    output, old = run / "output", read_neurons(run / "output")
    before = {p: p.stat().st_mtime_ns for p in output.rglob("*") if p.is_file()}
    assert not (output / "results/manifests").exists()
    python(run, "-m", "pipeline", "run", "--quiet", "experiment.toml")
    after = {p: p.stat().st_mtime_ns for p in output.rglob("*") if p.is_file()}
    drawn = {output / "report.html", *(output / "figures").iterdir()}
    made = {p.name for p in after.keys() - before.keys() - drawn if p.parent.name == "manifests"}
    assert len(made) == 12 + 2 and {"tables.json", "report.json"} <= made
    changed = {path for path in before if after.get(path) != before[path]}
    assert output / "report.html" in changed
    whole = {output / "provenance.json", *(output / "results").glob("*.*")}
    # Figures that are drawn no more are deleted: here learning curves, flat by construction.
    gone = {path for path in changed if path.parent.name == "figures" and not path.exists()}
    others = {str(path) for path in changed - drawn - whole - gone}
    assert all(FIT in path or TUNING in path for path in others)
    assert to_do(run) == {}
    assert_rounded_otherwise(read_neurons(output), old)


def assert_rounded_otherwise(new, old):
    """The neurons of two tables in which the numbers of `adamw` differ by less than 1e-5.

    They differed by 3e-7, those of tunings and CNNs not at all, but for correlations by rounding.
    Of `als`, which is another solver by now, neurons and their signal are the same.
    """
    fits = old["tuning"] == "frozen"
    again = fits & (old["solver"] == "als")
    assert fits.sum() == 7 * 4 and 0 < again.sum() < fits.sum()
    # New columns are empty where nothing was computed again.
    assert set(old) < set(new)
    assert new.loc[new["model"].str.startswith("cnn_"), "cc_norm"].isna().all()
    # Of `als`, neurons that are predicted to respond with their mean have no correlation.
    assert np.isfinite(new.loc[fits & ~again, "single_trial_correlation"]).all()
    new = new[list(old)]
    tuned = [each[~fits].drop(columns="test_correlation") for each in (new, old)]
    pd.testing.assert_frame_equal(*tuned, check_exact=True)
    np.testing.assert_allclose(
        new["test_correlation"][~fits], old["test_correlation"][~fits], atol=1e-6
    )
    rounded = fits & ~again
    pd.testing.assert_frame_equal(new[rounded], old[rounded], check_exact=False, rtol=0, atol=1e-5)
    numbers = ["feve", "feve_se", "val_varexp", "test_correlation"]
    same = [each.loc[again].drop(columns=numbers) for each in (new, old)]
    pd.testing.assert_frame_equal(*same, check_exact=True)
