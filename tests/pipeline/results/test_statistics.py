"""Best blocks, paired differences and their intervals."""

import numpy as np
import pandas as pd
import pytest
from support.tables import cnn_table, core_table, neurons_table

from pipeline.results.names import describe
from pipeline.results.statistics import (
    READ,
    SERIES,
    best_blocks,
    bootstrap_interval,
    paired_difference,
    reference,
    references,
    rows_of,
)


def test_the_best_block_is_chosen_on_validation_and_the_test_s_choice_stands_beside_it():
    neurons = neurons_table(tokens=("patch",))
    # Validation prefers block 5, the test images prefer block 4.
    neurons.loc[neurons["block"] == 5, "val_varexp"] += 1
    neurons.loc[neurons["block"] == 4, "feve"] += 0.1
    (row,) = best_blocks(neurons).to_dict("records")
    assert (row["block"], row["test_block"]) == (5, 4)
    assert row["test_mean_feve"] > row["mean_feve"]
    chosen = rows_of(neurons, row)
    assert row["mean_feve"] == pytest.approx(chosen.loc[chosen["fev"] > 0.15, "feve"].mean())


def test_every_series_has_a_row_and_one_without_blocks_too():
    neurons = neurons_table(tunings=("frozen", "last2"), recordings=("a", "b"))
    cnn = neurons_table(blocks=(4,), tokens=("patch",)).assign(
        model="cnn_fullmodel", tokens=None, block=pd.NA, blocks=None
    )
    best = best_blocks(pd.concat([neurons, cnn], ignore_index=True))
    assert len(best) == 9
    assert best["block"].isna().sum() == 1


def test_readouts_of_several_blocks_are_conditions_of_their_own():
    single = neurons_table(tokens=("patch",))
    joint = neurons_table(tokens=("patch",), blocks=(4,)).assign(blocks="3+4")
    joint["val_varexp"] += 1
    neurons = pd.concat([single, joint], ignore_index=True)
    (row,) = best_blocks(neurons).to_dict("records")
    assert (row["block"], row["blocks"]) == (4, "3+4")
    assert len(rows_of(neurons, row)) == joint["neuron"].nunique()
    assert describe(row, ["tuning", "block"]) == "frozen, blocks 3+4"


def test_no_valid_neuron_gives_no_row():
    assert best_blocks(neurons_table().assign(feve=np.nan)).empty
    assert best_blocks(neurons_table().assign(fev=0.1)).empty


def test_the_interval_is_that_of_the_means_of_drawn_values():
    """Against its definition, drawn here one resample at a time."""
    values = np.random.default_rng(0).gamma(2, size=80)
    rng = np.random.default_rng(1)
    means = [rng.choice(values, size=80).mean() for _ in range(5000)]
    ours = bootstrap_interval(values, resamples=5000)
    np.testing.assert_allclose(ours, np.percentile(means, [2.5, 97.5]), rtol=0.03)
    assert bootstrap_interval(values, resamples=5000) == ours


def test_the_interval_needs_little_memory_and_parts_do_not_change_it(monkeypatch):
    values = np.random.default_rng(0).gamma(2, size=80)
    whole = bootstrap_interval(values, resamples=500)
    monkeypatch.setattr("pipeline.results.statistics.IN_MEMORY", 800)
    assert bootstrap_interval(values, resamples=500) == pytest.approx(whole)


def test_paired_differences_cancel_what_neurons_share():
    neurons = neurons_table(tunings=("frozen", "last2"), tokens=("patch",), blocks=(4,))
    frozen, tuned = (neurons[neurons["tuning"] == t] for t in ("frozen", "last2"))
    difference = paired_difference(frozen, tuned)
    assert difference.low < 0.085 < difference.high
    assert difference.high - difference.low < 0.06  # talent alone spreads by 0.2
    assert paired_difference(frozen, tuned) == difference
    assert paired_difference(tuned, frozen).difference == pytest.approx(-difference.difference)


def test_only_neurons_valid_in_both_count():
    neurons = neurons_table(tunings=("frozen", "last2"), tokens=("patch",), blocks=(4,))
    frozen, tuned = (neurons[neurons["tuning"] == t].copy() for t in ("frozen", "last2"))
    both = (frozen["fev"].to_numpy() > 0.15) & (tuned["fev"].to_numpy() > 0.15)
    assert paired_difference(frozen, tuned).n_neurons == both.sum()
    nothing = paired_difference(frozen, tuned.assign(feve=np.nan))
    assert nothing.n_neurons == 0 and np.isnan(nothing.difference)


@pytest.mark.parametrize("n", [0, 1])
def test_tiny_samples_have_no_false_interval(n):
    low, high = bootstrap_interval(np.ones(n))
    assert (low, high) == (1, 1) if n else np.isnan([low, high]).all()


def test_the_reference_is_last0_of_the_same_protocol_block_and_solver_else_the_frozen_fit():
    tuned = neurons_table(tunings=("frozen", "last0", "last2"), tokens=("patch",), n_neurons=5)
    others = [
        tuned.assign(solver="als", seed=1),
        tuned[tuned["tuning"] != "frozen"].assign(protocol="minimodel-vit"),
        tuned[tuned["tuning"] == "last2"].assign(protocol="third"),
        tuned[tuned["tuning"] == "last2"].assign(solver="fourth"),
    ]
    neurons = pd.concat([tuned, *others], ignore_index=True)
    for row in neurons[[*SERIES, *READ]].drop_duplicates().to_dict("records"):
        found = reference(neurons, row)
        if row["tuning"] == "frozen" or row["solver"] == "fourth":
            assert found is None
            continue
        assert found is not None
        alone = row["tuning"] == "last0" or row["protocol"] == "third"
        assert found["tuning"] == ("frozen" if alone else "last0")
        assert found["protocol"] == (None if alone else row["protocol"])
        same = [name for name in (*SERIES, *READ) if name not in ("tuning", "protocol")]
        assert [found[name] for name in same] == [row[name] for name in same]
        assert len(rows_of(neurons, found)) == 5


def test_a_cnn_has_no_reference():
    cnn = neurons_table(tunings=("full",), models=("cnn_fullmodel",), n_neurons=3)
    cnn = cnn.assign(block=None, blocks=None, tokens=None, protocol=None)
    assert reference(cnn, cnn[[*SERIES, *READ]].iloc[0].to_dict()) is None


def test_a_core_beside_a_backbone_is_measured_against_either_alone():
    frozen = neurons_table(tokens=("patch",), n_neurons=3)
    others = [
        neurons_table(tokens=("patch",), models=("vit_base",), n_neurons=3),
        frozen.assign(seed=1), frozen.assign(input_size="128x256"), cnn_table(n_neurons=3),
        frozen.assign(solver="other"), core_table(n_neurons=3), core_table("vit_none", n_neurons=3),
    ]  # fmt: skip
    neurons = pd.concat([*others, frozen.assign(solver="als")], ignore_index=True)
    for row in core_table(n_neurons=3)[[*SERIES, *READ]].drop_duplicates().to_dict("records"):
        alone, read = references(neurons, row)
        assert (alone["model"], alone["input_size"]) == ("cnn_fullmodel", "66x130")
        told = "model", "input_size", "tuning", "block", "seed", "solver"
        # Of the first solver in the table.
        assert [read[name] for name in told] == [
            "vit_small", "64x128", "frozen", row["block"], 0, "other",
        ]  # fmt: skip
        assert reference(neurons, row) == alone
        assert all(len(rows_of(neurons, each)) == 3 for each in (alone, read))
        without = neurons[neurons["model"] != "cnn_fullmodel"]
        assert reference(without, row) == read
        (only,) = references(neurons, row | {"model": "cnn_vit+vit_none"})
        assert only == alone


def test_a_core_beside_a_backbone_has_a_name():
    row = core_table("vit_small_patch16_dinov3.lvd1689m+random").iloc[0]
    said = describe(row, ["model", "tuning", "block"])
    assert said == "CNN + ViT-S/16 DINOv3 (random weights), core trained, block 3"
