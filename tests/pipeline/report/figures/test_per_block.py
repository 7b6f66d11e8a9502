"""The figure of FEVE per block, by its content: what is drawn, labelled and counted."""

import numpy as np
import pandas as pd
import pytest

from pipeline.report.figures import feve_per_block, save_figure


def summary(
    *, blocks=range(12), tokens=("patch", "cls"), recordings=("mouse",), valid=180, seeds=(0,)
):
    rows = [
        {
            "recording": recording, "model": "vit_small_patch16_224.dino", "input_size": "64x128",
            "tuning": "frozen", "protocol": None, "tokens": kind, "block": block,
            "blocks": str(block), "solver": "adamw", "seed": seed, "n_neurons": 200,
            "n_valid": valid, "mean_feve": 0.5 - 0.01 * abs(block - 4), "sem_feve": 0.01,
            "seconds": 1.0,
        }
        for recording in recordings for kind in tokens for seed in seeds for block in blocks
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_one_line_for_patch_and_one_for_cls_with_every_block():
    (axes,) = feve_per_block(summary()).axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "patch tokens",
        "CLS token",
    ]
    line = axes.containers[0].lines[0]
    np.testing.assert_array_equal(line.get_xdata(), np.arange(12))
    assert np.argmax(line.get_ydata()) == 4
    assert "block" in axes.get_xlabel() and "FEVE" in axes.get_ylabel()
    assert "95 % interval" in axes.get_ylabel()
    heading = axes.figure.get_suptitle()
    assert "mouse" in heading and "ViT-S/16 DINO" in heading and "n = 180" in heading


def test_error_bars_are_95_percent_intervals():
    (axes,) = feve_per_block(summary(tokens=("patch",))).axes
    bars = axes.containers[0].lines[2][0].get_segments()
    np.testing.assert_allclose([(s[1, 1] - s[0, 1]) / 2 for s in bars], 0.0196)


def test_what_varies_is_in_the_legend_and_what_does_not_in_the_title():
    (axes,) = feve_per_block(summary(recordings=("FX8", "FX9"), seeds=(0, 1))).axes
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert len(labels) == 8
    assert any("FX8" in label and "seed 1" in label and "CLS" in label for label in labels)
    assert "FX8" not in axes.figure.get_suptitle()
    assert len({line.lines[0].get_color() for line in axes.containers}) == 8


@pytest.mark.parametrize(
    "table",
    [
        summary(blocks=[4], tokens=("patch",)),
        summary(blocks=[3, 7]),
        summary().assign(mean_feve=np.nan, sem_feve=np.nan, n_valid=0),
        summary().assign(n_valid=1, sem_feve=np.nan),
        summary().iloc[:0],
        summary().assign(block=None, tokens=None, model="cnn_fullmodel"),
    ],
    ids=[
        "one condition",
        "two blocks",
        "no valid neuron",
        "one valid neuron",
        "empty",
        "no blocks",
    ],
)
def test_edge_cases_are_drawn(table, tmp_path):
    save_figure(feve_per_block(table, note="random weights"), tmp_path / "f" / "figure")
    assert (tmp_path / "f" / "figure.png").stat().st_size > 5_000


def test_drawing_again_leaves_the_file_alone(tmp_path):
    for _ in range(2):
        save_figure(feve_per_block(summary()), tmp_path / "figure")
        times = (tmp_path / "figure.png").stat().st_mtime_ns
    save_figure(feve_per_block(summary()), tmp_path / "figure")
    assert (tmp_path / "figure.png").stat().st_mtime_ns == times
