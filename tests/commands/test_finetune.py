"""Fine-tuning conditions: what they train, where they start, and what they are compared with."""

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from support.tuning_runs import tasks

from pipeline.experiment import load_experiment
from pipeline.results.tables import read_summary
from stages.finetune import Finetune
from stages.finetune import run as finetune
from stages.finetune.run import finetune_condition
from stages.readouts import load_readouts
from stages.readouts.manifest import saved_attributes


def test_tuned_conditions_stand_in_the_tables_beside_the_frozen(tuned_run):
    file = load_experiment(tuned_run)
    summary = read_summary(file.output)
    assert summary["tuning"].tolist() == ["frozen"] * 6 + ["last0", "last1", "full"]
    tuned = summary[summary["tuning"] != "frozen"]
    assert set(tuned["protocol"]) == {"matched"} and set(tuned["block"]) == {1}
    assert set(tuned["solver"]) == {"adamw"} and set(tuned["tokens"]) == {"patch"}
    neurons = pd.read_parquet(file.output / "results/neurons.parquet")
    assert np.isfinite(neurons.loc[neurons["tuning"] == "full", "val_varexp"]).all()
    curves = pd.read_parquet(file.output / "results/curves.parquet")
    assert curves[curves["tuning"] == "last1"]["epoch"].tolist() == [0, 1, 2, 3]


def test_training_improves_on_the_start(tuned_run):
    """What the tests of equal outcomes below would not notice: an outcome that is the start."""
    output = load_experiment(tuned_run).output
    frozen = load_readouts(output, tuning="frozen", tokens="patch", block=1)
    outcomes = [load_readouts(output, tuning=t, tokens="tuned").channel_weights
                for t in ("last0", "last1", "full")]  # fmt: skip
    for number, weights in enumerate(outcomes):
        assert not np.allclose(weights, frozen.channel_weights)
        assert all(not np.array_equal(weights, other) for other in outcomes[:number])
    neurons = pd.read_parquet(output / "results/neurons.parquet")
    read = neurons[(neurons["tokens"] == "patch") & (neurons["block"] == 1)]
    score = read.groupby("tuning")["val_varexp"].mean()
    assert (score[["last0", "last1", "full"]] > score["frozen"]).all()


def test_names_and_counts_are_recorded_and_weights_kept(tuned_run):
    output = load_experiment(tuned_run).output
    for tuning, stages in (("last0", set()), ("last1", {"blocks.1"}), ("full", None)):
        task = tasks(tuned_run)[tuning]
        kept = safetensors.torch.load_file(task.weights_path)
        recorded = saved_attributes(output, task.condition)
        assert recorded["trained"] == {name: value.numel() for name, value in kept.items()}
        named = {n.removeprefix("vit.") for n in kept if n.startswith("vit.")}
        if stages is not None:
            assert {".".join(n.split(".")[:2]) for n in named} == stages
        assert recorded["start"] == ("images" if tuning == "full" else "cache")
    assert {"cls_token", "reg_token", "patch_embed.proj.weight"} <= named
    assert not list((output / "checkpoints").iterdir())


def test_last0_with_no_epochs_is_the_frozen_condition(tuned_run, run_copy):
    """The same predictions bit for bit, and so the same FEVE."""
    task = tasks(tuned_run, run_copy, "finetune.epochs=0")["last0"]
    fitted = finetune_condition(task)
    frozen = load_readouts(task.run, tuning="frozen", tokens="patch", block=1)
    np.testing.assert_array_equal(fitted.readouts.channel_weights, frozen.channel_weights)
    neurons = pd.read_parquet(task.run / "results/neurons.parquet")
    rows = neurons[
        (neurons["tuning"] == "frozen") & (neurons["block"] == 1) & (neurons["tokens"] == "patch")
    ]
    np.testing.assert_array_equal(fitted.columns["feve"], rows["feve"].to_numpy(float))
    # A fit has its validation responses divided by their scale, and multiplies them by it again.
    explained = rows["val_varexp"].to_numpy(float)
    np.testing.assert_allclose(fitted.columns["val_varexp"], explained, rtol=1e-6)


def test_both_starts_train_to_the_same(tuned_run, run_copy):
    """From float16 tokens or from images: one model, and numbers that agree closely."""
    cached = finetune_condition(tasks(tuned_run, run_copy)["last1"])
    images = finetune_condition(tasks(tuned_run, run_copy, "finetune.start=images")["last1"])
    assert cached.key != images.key
    np.testing.assert_allclose(cached.test_predictions, images.test_predictions, rtol=5e-3)
    assert not np.array_equal(cached.test_predictions, images.test_predictions)


def test_rescaled_rotary_coordinates_start_from_images_and_follow_the_seed(tuned_run, run_copy):
    rescaled = tasks(tuned_run, run_copy, "finetune.rope_rescale=2")
    assert {task.start for task in rescaled.values()} == {"images"}
    plain = finetune_condition(tasks(tuned_run, run_copy, "finetune.start=images")["last1"])
    one, again = (finetune_condition(rescaled["last1"]) for _ in range(2))
    assert not np.allclose(one.test_predictions, plain.test_predictions, rtol=1e-3)
    np.testing.assert_array_equal(one.test_predictions, again.test_predictions)


def test_micro_batches_change_nothing_but_rounding(tuned_run, run_copy):
    whole = finetune_condition(tasks(tuned_run, run_copy)["last1"])
    parts = finetune_condition(tasks(tuned_run, run_copy, "finetune.micro_batch=5")["last1"])
    np.testing.assert_allclose(whole.test_predictions, parts.test_predictions, rtol=1e-3)


def test_bfloat16_trains_to_about_the_same(tuned_run, run_copy):
    whole = finetune_condition(tasks(tuned_run, run_copy)["last1"])
    half = finetune_condition(tasks(tuned_run, run_copy, "finetune.precision=bfloat16")["last1"])
    assert whole.key != half.key
    assert not np.array_equal(whole.test_predictions, half.test_predictions)
    np.testing.assert_allclose(whole.test_predictions, half.test_predictions, rtol=0.1)
    assert half.readouts.channel_weights.dtype == np.float32


def test_the_same_seed_gives_the_same_numbers(tuned_run, run_copy):
    one, again = (finetune_condition(tasks(tuned_run, run_copy)["full"]) for _ in range(2))
    np.testing.assert_array_equal(one.test_predictions, again.test_predictions)
    saved = load_readouts(tasks(tuned_run, run_copy)["full"].run, tuning="full",
                          tokens="tuned")  # fmt: skip
    np.testing.assert_array_equal(one.readouts.channel_weights, saved.channel_weights)


@pytest.mark.parametrize(("protocol", "kept"), [("matched", True), ("minimodel-vit", False)])
def test_the_start_counts_in_the_matched_protocol_only(tuned_run, run_copy, protocol, kept):
    """The published one returns an epoch, be it worse than the frozen fit."""
    worse = (f"finetune.protocol={protocol}", "finetune.readout_rate=30", "finetune.epochs=1")
    task = tasks(tuned_run, run_copy, *worse)["last0"]
    fitted = finetune_condition(task)
    frozen = load_readouts(task.run, tuning="frozen", tokens="patch", block=1).held_out
    same = np.array_equal(fitted.readouts.channel_weights, frozen.channel_weights)
    assert same == fitted.extra["kept_start"] == kept
    assert ("which is kept" in Finetune().told(fitted)) == kept
    neurons = pd.read_parquet(task.run / "results/neurons.parquet")
    rows = neurons["tuning"].eq("frozen") & neurons["block"].eq(1) & neurons["tokens"].eq("patch")
    (epoch,) = fitted.readouts.curve
    assert epoch.validation_score < neurons.loc[rows, "val_varexp"].mean()


def test_keys_hold_what_earlier_versions_did_not_do(tuned_run):
    """And nothing else that they did not know: their other results stay up to date."""
    matched = tasks(tuned_run)["last0"].inputs
    assert "start_counts" not in matched["protocol"]
    assert "rope_rescale" not in matched["settings"]
    published = tasks(tuned_run, "finetune.protocol=minimodel-vit")["last0"].inputs
    assert published["protocol"]["start_counts"] is False
    rescaled = tasks(tuned_run, "finetune.rope_rescale=2")["last0"].inputs
    assert rescaled["settings"]["rope_rescale"] == 2


def test_the_published_protocol_starts_from_adamw_and_relaxes_the_penalty(tuned_run):
    task = tasks(tuned_run, "finetune.protocol=minimodel-vit", "readout.solver=als")["last0"]
    assert task.frozen.solver == task.condition.solver == "adamw"
    penalty = finetune._penalty(task)
    assert penalty.of == "factors" and torch.allclose(penalty.factor * 32, torch.tensor(1e-4))


def test_the_matched_protocol_keeps_the_penalty_per_trial(tuned_run):
    penalty = finetune._penalty(tasks(tuned_run)["last0"])
    assert penalty.of == "factors"
    assert torch.allclose(penalty.factor, torch.tensor(0.1 / 64))
