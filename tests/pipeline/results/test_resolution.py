"""FEVE against pixels per token: what is a sweep, what is chosen, what it is compared with."""

import re

import numpy as np
import pandas as pd
import pytest
from support.tables import cnn_table, neurons_table, resolution_of

from pipeline.report.finer import finer_tokens
from pipeline.results.resolution import swept, token_spacing
from pipeline.results.statistics import paired_difference
from stages.backbones import sampled_like, unsampled
from stages.conditions import Condition

SWEEP = ("vit+stride16", "vit+stride8", "vit+patch8", "swin")


def sweep(**changes):
    """A finer stride adds 0.1; Swin is best at its block 4, with tokens every 8 pixels."""
    neurons = neurons_table(models=SWEEP, tokens=("patch",), **changes)
    neurons.loc[neurons["model"] == "vit+stride8", "feve"] += 0.1
    return pd.concat([neurons, cnn_table()], ignore_index=True)


def test_a_row_for_each_spacing_against_the_coarsest():
    neurons = sweep()
    table = resolution_of(neurons)
    told = list(zip(table["model"], table["pixels_per_token"].fillna(0), strict=True))
    swin = [("swin", pixels) for pixels in (4, 8, 16)]
    assert told == [("vit+stride16", 16), ("vit+stride8", 8), ("vit+patch8", 8), *swin, (CNN, 0)]
    assert set(table["against"]) == {"vit (stride 16), 64x128, block 4"}
    assert table["difference"][0] == 0
    assert table["difference"][1] == pytest.approx(0.1, abs=0.02)
    row = table.iloc[1]
    one, other = (
        neurons[(neurons["model"] == name) & (neurons["block"] == 4)] for name in SWEEP[:2]
    )
    expected = paired_difference(one, other)
    assert (row["difference"], row["low"]) == (expected.difference, expected.low)


CNN = "cnn_fullmodel"


def test_blocks_are_chosen_on_validation_alone():
    neurons = sweep()
    fine = neurons["model"] == "vit+stride8"
    neurons.loc[fine & (neurons["block"] == 5), "val_varexp"] += 1
    neurons.loc[fine & (neurons["block"] == 3), "feve"] += 1
    assert resolution_of(neurons)["block"][1] == 5


def test_what_is_told_first_is_chosen_on_validation_too():
    neurons = sweep()
    neurons.loc[neurons["model"] == "vit+patch8", "val_varexp"] += 1
    neurons.loc[(neurons["model"] == "swin") & (neurons["block"] == 3), "feve"] += 1
    said = finer_tokens(resolution_of(neurons))
    assert re.search(r"and 0\.\d+ with patches of 8 pixels", said[0])
    assert re.search(r"swin, frozen 0\.\d+ with tokens every 8 pixels \(block 4\)", said[1])


@pytest.mark.parametrize("models", [("swin",), ("vit", "swin"), ("vit+stride8",)])
def test_blocks_of_one_network_are_no_sweep(models):
    table = resolution_of(neurons_table(models=models, tokens=("patch",)))
    assert table.empty and finer_tokens(table) == []


def test_no_valid_neuron_gives_no_table():
    assert resolution_of(sweep().assign(feve=np.nan)).empty


def test_recordings_are_compared_within_themselves():
    table = resolution_of(sweep(recordings=("a", "b")))
    sweeps = swept(table)
    assert [coarse["recording"] for coarse, _ in sweeps] == ["a", "b"]
    assert all(len(finer) == 2 for _, finer in sweeps)


def test_sentences():
    said = finer_tokens(resolution_of(sweep()))
    assert said[0].startswith(
        "Finer tokens raise mean FEVE: in recording mouse, vit, frozen has 0."
    )
    assert "with tokens every 16 pixels (block 4) and" in said[0] and "paired over" in said[0]
    assert "with patches of 8 pixels (block 4), " in said[0]
    assert "chosen on validation" in said[0] and "95 % CI +0.0" in said[0]
    assert "swin, frozen" in said[1] and "CNN fullmodel" in said[1]


def test_what_reads_no_one_block_has_its_row_and_its_words():
    joined = "vit+stride16:4 + swin:3"
    both = neurons_table(models=(joined,), blocks=(3,), tokens=("patch",)).assign(blocks=None)
    both["block"] = pd.array([pd.NA] * len(both), "Int64")
    neurons = pd.concat([sweep(), both], ignore_index=True)
    spacing = resolution_of(neurons)
    table = spacing.assign(pixels_per_token=spacing["pixels_per_token"].fillna(8))
    assert joined in set(table["model"]) and unsampled(joined) == joined
    assert re.search(r"0\.\d+ with tokens every 16 pixels, -0", finer_tokens(table)[1])


@pytest.mark.parametrize(
    ("label", "backbone", "line"),
    [
        ("vit", "vit", "vit"),
        ("vit+stride16", "vit", "vit+stride"),
        ("vit+patch8", "vit", "vit+patch"),
        ("vit+patch8+stride4-overlap+random", "vit+random", "vit+patch8+stride-overlap+random"),
        ("vit+patch8_of_mine", "vit+patch8_of_mine", "vit+patch8_of_mine"),
    ],
)
def test_labels_without_their_sampling(label, backbone, line):
    assert (unsampled(label), sampled_like(label)) == (backbone, line)


def test_spacing_is_of_the_smallest_image(tmp_path, monkeypatch):
    class Held:
        stride = (16, 16)

    monkeypatch.setattr("pipeline.results.resolution.saved_places", lambda *_: Held)
    conditions = [
        Condition(recording="a", model="vit", input_size=size, tokens=tokens, block=0)
        for size, tokens in (("64x128", "patch"), ("128x256", "patch"), ("64x128", "cls"))
    ]
    np.testing.assert_equal(token_spacing(tmp_path, conditions), [16.0, 8.0, np.nan])
