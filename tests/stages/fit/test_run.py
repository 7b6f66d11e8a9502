"""Stage two from a cache: scores, independence, saved readouts, and what is refused."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from support.tiny import write_experiment

from cache import open_cache
from pipeline.cli.main import main
from pipeline.experiment import load_experiment
from pipeline.results.tables import read_summary
from pipeline.variant.inputs import Inputs
from pipeline.variant.together import open_variants
from stages.conditions import IDENTITY, Condition
from stages.feve import fev_and_feve
from stages.fit.run import fit_condition
from stages.fit.task import FitTask
from stages.readouts import fit_readouts, load_readouts
from stages.readouts.settings import AdamWSettings, ReadoutSettings
from stages.recordings.derived import normalise

pytestmark = pytest.mark.usefixtures("no_figures")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """An experiment file that was run once."""
    path = write_experiment(tmp_path_factory.mktemp("mouse"), n_train=40, n_validation=8)
    assert main(["run", str(path), "--quiet"]) == 0
    return path


def opened(path):
    file = load_experiment(path)
    cache = open_cache(file.cache_path(file.variants[0]))
    (recording,) = open_variants(file)[0].recordings
    return file, cache, recording


def test_tables_have_the_documented_columns(finished):
    file, cache, recording = opened(finished)
    neurons = pd.read_parquet(file.output / "results/neurons.parquet")
    expected = [
        *IDENTITY, "neuron", "unit_id", "x", "y", "fev", "feve", "val_varexp",
        "test_correlation", "n_repeats", "feve_se", "single_trial_correlation", "cc_norm",
        "r2_er", "r2_er_low", "r2_er_high", "weights", "cache_key",
    ]  # fmt: skip
    assert list(neurons.columns) == expected
    assert len(neurons) == 2 * 3 * recording.n_neurons
    assert set(neurons["weights"]) == {"random"} and set(neurons["cache_key"]) == {cache.key}
    assert set(neurons["tuning"]) == {"frozen"} and neurons["protocol"].isna().all()
    assert set(neurons["input_size"]) == {"32x64"} and set(neurons["n_repeats"]) == {3}
    first = neurons[(neurons["block"] == 1) & (neurons["tokens"] == "cls")]
    assert first["unit_id"].tolist() == recording.unit_ids.tolist()
    assert set(first["blocks"]) == {"1"}
    summary = read_summary(file.output)
    assert list(summary.columns) == [
        *IDENTITY, "n_neurons", "n_valid", "mean_feve", "sem_feve", "seconds",
    ]  # fmt: skip
    assert len(summary) == 6


def test_summary_is_the_mean_over_valid_neurons(finished):
    file, _, _ = opened(finished)
    neurons = pd.read_parquet(file.output / "results/neurons.parquet")
    summary = read_summary(file.output).set_index(["tokens", "block"])
    for (tokens, block), rows in neurons.groupby(["tokens", "block"]):
        feve = rows.loc[rows["fev"] > 0.15, "feve"]
        row = summary.loc[(tokens, block)]
        assert row["n_valid"] == len(feve)
        assert row["mean_feve"] == pytest.approx(feve.mean(), nan_ok=True)
        assert row["sem_feve"] == pytest.approx(feve.sem(), nan_ok=True)


def test_provenance_says_what_was_used(finished):
    file, cache, _ = opened(finished)
    provenance = json.loads((file.output / "provenance.json").read_text())
    assert [c["key"] for c in provenance["caches"].values()] == [cache.key]
    assert provenance["seeds"] == [0]
    assert provenance["versions"]["torch"] == torch.__version__.split("+")[0]
    assert provenance["settings"]["backbone"]["weights"] == "random"


def test_a_second_run_changes_no_file(finished):
    file, _, _ = opened(finished)
    files = [p for p in file.output.rglob("*") if p.is_file()]
    before = {p: p.stat().st_mtime_ns for p in files}
    assert main(["run", str(finished), "--quiet"]) == 0
    after = {p: p.stat().st_mtime_ns for p in file.output.rglob("*") if p.is_file()}
    assert after == before


def test_saved_readouts_give_the_saved_predictions_and_feve(finished):
    file, cache, recording = opened(finished)
    readouts = load_readouts(file.output, tokens="patch", block=1)
    x = cache.block(1).read("patches", recording.test_image_ids)
    predictions = readouts.predict(x)
    neurons = pd.read_parquet(file.output / "results/neurons.parquet")
    rows = neurons[(neurons["tokens"] == "patch") & (neurons["block"] == 1)]
    _, feve = fev_and_feve(recording.test_responses, predictions)
    np.testing.assert_array_equal(rows["feve"].to_numpy(float), feve)


def test_cached_predictions_are_those_of_direct_tokens(finished):
    """The whole path against `forward_intermediates` in float32; float16 costs under 1 %."""
    from stages.backbones.backbone import create_backbone
    from stages.stimuli.preprocessing import Preprocessing

    file, cache, recording = opened(finished)
    experiment = file.variants[0]
    backbone = create_backbone(experiment.backbone, input_size=(32, 64))
    stimuli = Inputs(experiment).required_stimuli
    prepare = Preprocessing(crop=(0, 64), input_size=(32, 64), mean=backbone.mean, std=backbone.std)
    tokens = backbone.tokens(prepare(stimuli.read(recording.test_image_ids)))[2]["patches"]
    readouts = load_readouts(file.output, tokens="patch", block=2)
    direct = readouts.predict(tokens)
    cached = readouts.predict(cache.block(2).read("patches", recording.test_image_ids))
    np.testing.assert_allclose(cached, direct, rtol=0.01)
    for one, other in zip(
        fev_and_feve(recording.test_responses, direct),
        fev_and_feve(recording.test_responses, cached),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, atol=0.02)


def test_loading_names_what_is_wrong(finished, tmp_path):
    file, _, _ = opened(finished)
    from cache import UserError

    with pytest.raises(UserError, match="6 conditions"):
        load_readouts(file.output)
    with pytest.raises(UserError, match="no readouts with block=7"):
        load_readouts(file.output, block=7)
    with pytest.raises(UserError, match="blok is not one of"):
        load_readouts(file.output, blok=7)
    with pytest.raises(UserError, match="run vitv1 fit first"):
        load_readouts(tmp_path)


def task(finished, recording=None, **adamw):
    _, cache, recorded = opened(finished)
    return FitTask(
        condition=Condition(
            recording="mouse", model="vit", input_size="32x64", tokens="patch", block=1,
            blocks="1", solver="adamw",
        ),
        cache_path=cache.path,
        cache_key=cache.key,
        weights="random",
        recording=recorded if recording is None else recording,
        recording_digest="",
        settings=ReadoutSettings(solver="adamw", adamw=AdamWSettings(max_epochs=4, **adamw)),
    )  # fmt: skip


def test_without_the_clip_a_neuron_does_not_depend_on_its_neighbours(finished):
    """adamw promises it where nothing couples the neurons: no clip and a fixed number of epochs."""
    _, _, recording = opened(finished)
    free = {"clip_norm": None, "patience": 100}
    whole = fit_condition(task(finished, **free))
    alone = fit_condition(task(finished, recording.select_neurons(2, 4), **free))
    np.testing.assert_allclose(
        alone.readouts.channel_weights, whole.readouts.channel_weights[2:4], rtol=1e-3, atol=1e-5
    )


def test_feve_does_not_depend_on_which_neurons_are_scored(finished):
    _, _, recording = opened(finished)
    fitted = fit_condition(task(finished))
    part = recording.select_neurons(1, 3)
    _, feve = fev_and_feve(part.test_responses, fitted.test_predictions[:, 1:3])
    np.testing.assert_array_equal(feve, fitted.columns["feve"][1:3])


def test_the_same_seed_gives_the_same_numbers_and_another_does_not(finished):
    one, again = fit_condition(task(finished)), fit_condition(task(finished))
    np.testing.assert_array_equal(one.test_predictions, again.test_predictions)
    given = task(finished)
    other = fit_condition(
        dataclasses.replace(given, condition=dataclasses.replace(given.condition, seed=1))
    )
    assert not np.array_equal(one.test_predictions, other.test_predictions)


def test_units_of_the_responses_carry_over(finished):
    """Normalising first gives the same FEVE: predictions come in the units of what was fitted."""
    _, _, recording = opened(finished)
    raw = fit_condition(task(finished))
    normalised = fit_condition(task(finished, normalise(recording, task(finished).scale)))
    np.testing.assert_allclose(raw.columns["feve"], normalised.columns["feve"], rtol=1e-3)
    assert not np.allclose(raw.test_predictions, normalised.test_predictions)


def test_workers_do_not_change_a_number(tmp_path):
    path = write_experiment(tmp_path)
    tables = []
    for workers in (1, 2):
        output = tmp_path / f"runs{workers}"
        options = ["--set", f"run.workers={workers}", "--set", f"run.output={output}"]
        assert main(["run", str(path), "--quiet", *options]) == 0
        tables.append(pd.read_parquet(output / "results/neurons.parquet"))
    pd.testing.assert_frame_equal(*tables)


def test_a_changed_setting_refits_exactly_what_depends_on_it(tmp_path, capsys):
    path = write_experiment(tmp_path)

    def fitted(*options):
        assert main(["fit", str(path), *options]) == 0
        return capsys.readouterr().err

    assert main(["extract", str(path), "--quiet"]) == 0
    assert "6 conditions fitted, 0 up to date" in fitted()
    assert "0 conditions fitted, 6 up to date" in fitted()
    assert "0 conditions fitted, 2 up to date" in fitted("--set", "readout.blocks=[1]")
    changed = ("--set", "readout.adamw.max_epochs=2")
    assert "2 conditions fitted, 0 up to date" in fitted(*changed, "--set", "readout.blocks=[1]")
    assert "4 conditions fitted, 2 up to date" in fitted(*changed)
    assert "6 conditions fitted" in fitted("--set", "recording.neurons=[0,2]")


def test_fit_needs_neither_timm_nor_backbone_nor_images(finished, tmp_path):
    """A laptop with the shared cache and the recording alone."""
    shared = load_experiment(finished).output / "features.zarr"
    settings = f"cache.path={shared}", f"run.output={tmp_path / 'runs'}", "readout.blocks=[1]"
    code = (
        "import sys; sys.modules['timm'] = None; sys.modules['torchvision'] = None\n"
        "from pipeline.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    subprocess.run(
        [sys.executable, "-c", code, "fit", str(finished), *(f"--set={s}" for s in settings)],
        check=True, cwd=Path(__file__).parents[3], capture_output=True,
    )  # fmt: skip
    assert (tmp_path / "runs/results/neurons.parquet").exists()


def test_predictions_and_curves_are_saved(finished):
    import xarray as xr

    file, _, recording = opened(finished)
    (group,) = (file.output / "results/predictions.zarr").glob("*-patch-block1-*")
    saved = xr.open_zarr(group, consolidated=False)
    assert saved["test"].dims == ("image", "neuron")
    assert saved["image"].values.tolist() == recording.test_image_ids.tolist()
    curves = pd.read_parquet(file.output / "results/curves.parquet")
    assert curves.groupby(["tokens", "block"])["epoch"].max().tolist() == [2] * 6
    assert np.isfinite(curves["training_loss"]).all()


def test_fit_readouts_takes_features_from_anywhere():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 5)).astype(np.float32)
    r = np.exp(0.5 * x[:, :2]) * 30
    fit = fit_readouts(
        x[:40], r[:40], x[40:], r[40:], solver="adamw",
        settings=AdamWSettings(learning_rate=0.02, max_epochs=60, penalty=0, space_decay=0),
    )  # fmt: skip
    predicted = fit.predict(x[40:])
    for neuron in range(2):
        assert np.corrcoef(predicted[:, neuron], r[40:, neuron])[0, 1] > 0.85
    assert predicted.mean() == pytest.approx(r[40:].mean(), rel=0.3)
