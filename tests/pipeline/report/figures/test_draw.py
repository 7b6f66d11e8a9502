"""Every figure on edge cases, by its content: points, labels, limits, and words where empty."""

from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from support.tables import core_table, curves_of, neurons_table, resolution_of, summary_of

from cache import Places
from pipeline.report.answer import warnings
from pipeline.report.figures import (
    best_block_bars,
    best_block_violins,
    centres,
    centres_over_cortex,
    feve_against_fev,
    feve_by_resolution,
    feve_per_block,
    learning_curves,
    models_per_block,
    scatter,
    spatial_maps,
    tuned_per_block,
)
from pipeline.report.figures.draw import Tables, wanted_figures
from pipeline.report.figures.style import LOWEST_FEVE
from stages.readouts.readout import Readouts

MODELS = ("vit_small_patch16_dinov3.lvd1689m", "vit_base_patch16_dinov3.lvd1689m")


def readouts_of(n):
    rng = np.random.default_rng(0)
    return Readouts(
        row_weights=rng.random((n, 4), np.float32), column_weights=rng.random((n, 8), np.float32),
        channel_weights=np.zeros((n, 3), np.float32), bias=np.zeros(n, np.float32),
        scale=np.ones(n, np.float32),
    )  # fmt: skip


def said(figure):
    """Every text of a figure."""
    return " | ".join(text.get_text().replace("\n", " ") for text in figure.findobj(Text))


def named(figure):
    """What the legend of the first axes names."""
    return [text.get_text().replace("\n", " ") for text in figure.axes[0].get_legend().get_texts()]


def points(figure):
    """How many points the lines of the first axes hold."""
    return sum(
        len(line.get_xdata())
        for line in figure.axes[0].lines
        if line.get_linestyle() == "None" and len(line.get_xdata())
    )


ONE_CONDITION = neurons_table(blocks=(4,), tokens=("patch",))
ONE_NEURON = neurons_table(n_neurons=1, seed=1).assign(fev=0.5)
ALL_NAN = neurons_table().assign(feve=np.nan)
SUMMARIES = {
    "one condition": summary_of(ONE_CONDITION),
    "one neuron": summary_of(ONE_NEURON),
    "all NaN": summary_of(ALL_NAN),
}


@pytest.mark.parametrize("draw", [feve_per_block, tuned_per_block, models_per_block])
@pytest.mark.parametrize("case", SUMMARIES)
def test_per_block_figures_on_edge_cases(draw, case):
    figure = draw(SUMMARIES[case])
    (axes,) = figure.axes
    assert "block" in axes.get_xlabel() and "FEVE" in axes.get_ylabel()
    if draw is tuned_per_block:
        assert "no condition reads a block" in said(figure)
        return
    n_blocks = 1 if case == "one condition" else 3
    for container in axes.containers:
        assert len(container.lines[0].get_xdata()) == n_blocks
    counts = {"one condition": "n = ", "one neuron": "n = 1", "all NaN": "n = 0"}
    assert counts[case] in said(figure)


def test_frozen_against_last_n_draws_a_line_per_tuning():
    neurons = neurons_table(tunings=("frozen", "last1", "last2"), tokens=("patch",))
    figure = tuned_per_block(summary_of(neurons))
    assert named(figure) == ["frozen", "last 1 tuned", "last 2 tuned"]


def test_frozen_lines_of_a_solver_that_nothing_was_tuned_from_are_left_out():
    tuned = neurons_table(tunings=("frozen", "last1"), tokens=("patch",))
    other = neurons_table(tokens=("patch",)).assign(solver="als")
    figure = tuned_per_block(summary_of(pd.concat([tuned, other], ignore_index=True)))
    assert named(figure) == ["frozen", "last 1 tuned"] and "als" not in said(figure)


def test_a_missing_condition_leaves_a_gap_and_not_a_value():
    summary = summary_of(neurons_table(models=MODELS, tunings=("frozen", "last2")))
    lacking = summary[~((summary["model"] == MODELS[1]) & (summary["block"] == 4))]
    figure = models_per_block(lacking, tunings=None)
    lines = [container.lines[0] for container in figure.axes[0].containers]
    assert sorted(len(line.get_xdata()) for line in lines) == [2, 2, 3, 3]
    whole = lacking[lacking["model"] == MODELS[0]]
    assert "ViT-B" not in said(models_per_block(whole))


def test_models_are_compared_frozen_and_with_tuned():
    summary = summary_of(neurons_table(models=MODELS, tunings=("frozen", "last2")))
    frozen = said(models_per_block(summary))
    both = said(models_per_block(summary, tunings=None))
    assert "ViT-S/16 DINOv3" in frozen and "ViT-B/16 DINOv3" in frozen
    assert "last 2 tuned" in both and "last 2 tuned" not in frozen


def test_a_combination_of_finer_tokens_is_not_named_by_their_stride():
    models = ("vit+stride16", "vit+stride8", "vit+patch8")
    swept = neurons_table(models=models, tokens=("patch",))
    both = swept[swept["model"] == "vit+stride8"].assign(
        model="vit+stride8:4 + resnet50:0", block=pd.NA, blocks=None
    )
    neurons = pd.concat([swept, both], ignore_index=True).astype({"block": "Int64"})
    figure = feve_by_resolution(resolution_of(neurons))
    combined = "vit (stride 8) block 4 + resnet50 block 0"
    assert set(named(figure)) == {"vit, by stride", "vit, by patch size", combined}


def test_a_cnn_beside_a_backbone_lies_beside_its_frozen_line_and_is_no_tuning():
    neurons = pd.concat([neurons_table(tokens=("patch",)), core_table()], ignore_index=True)
    figure = models_per_block(summary_of(neurons))
    assert [name.partition(",")[0] for name in named(figure)] == ["vit_small", "CNN + vit_small"]
    assert "frozen and beside a CNN" in said(figure)
    assert "no condition reads a block" in said(tuned_per_block(summary_of(neurons)))
    tables = Tables(Path(), neurons, summary_of(neurons), curves_of(neurons))
    drawn = {name for name, _ in islice(wanted_figures(tables), 4)}
    assert drawn == {
        "feve_per_block", "feve_per_block_models", "best_block_violins", "best_block_bars",
    }  # fmt: skip


def test_published_values_are_drawn_for_fx10_alone():
    ours = neurons_table(models=MODELS, tokens=("patch",), recordings=("FX10",))
    drawn = feve_per_block(summary_of(ours))
    assert "published values" in said(drawn)
    stars = [line.get_ydata() for line in drawn.axes[0].lines if line.get_marker() == "*"]
    assert sorted(y[0] for y in stars if len(y)) == [0.3234, 0.3787]
    other = neurons_table(models=MODELS, tokens=("patch",), recordings=("FX8",))
    assert "published" not in said(feve_per_block(summary_of(other)))


@pytest.mark.parametrize("draw", [best_block_violins, best_block_bars])
def test_best_block_figures_on_edge_cases(draw):
    one = draw(ONE_CONDITION)
    valid = ONE_CONDITION[ONE_CONDITION["fev"] > 0.15]
    assert f"n = {len(valid)}" in said(one) and "block 4" in said(one)
    assert "n = 1" in said(draw(ONE_NEURON))
    assert "no valid neuron has a FEVE" in said(draw(ALL_NAN))
    lacking = neurons_table(tunings=("frozen", "last2"))
    lacking.loc[lacking["tuning"] == "last2", "feve"] = np.nan
    assert "last 2" not in said(draw(lacking)).partition(" | ")[2].replace("last 2 tuned", "", 0)


def test_violins_carry_their_means():
    neurons = neurons_table(tunings=("frozen", "last2"), tokens=("patch",))
    figure = best_block_violins(neurons)
    best = neurons[(neurons["block"] == 4) & (neurons["fev"] > 0.15)]
    for _, rows in best.groupby("tuning"):
        assert f"{rows['feve'].mean():.3f}" in said(figure)


def test_a_hundred_thousand_neurons_are_drawn_as_pixels():
    neurons = neurons_table(blocks=(4,), n_neurons=100_000)
    patch, cls = (neurons[neurons["tokens"] == kind] for kind in ("patch", "cls"))
    n_valid = int((patch["fev"] > 0.15).sum())
    for figure, n in (
        (scatter(patch, cls, names=("a", "b")), n_valid),
        (feve_against_fev(patch), 100_000),
    ):
        assert points(figure) == n
        assert all(line.get_rasterized() for line in figure.axes[0].lines if line.get_alpha())
    assert f"n = {n_valid}" in said(best_block_violins(patch))
    cortex = centres_over_cortex(readouts_of(100_000), patch, input_size=(64, 128))
    assert len(cortex.axes[0].collections[0].get_offsets()) == 100_000
    assert cortex.axes[0].collections[0].get_rasterized()


def test_scatter_marks_what_is_off_its_axes():
    first = ONE_CONDITION.assign(fev=0.5, feve=np.linspace(0.1, 0.9, len(ONE_CONDITION)))
    second = first.assign(feve=first["feve"].where(first.index > 2, -7.0))
    figure = scatter(first, second, names=("patch", "cls"))
    (axes,) = figure.axes
    assert points(figure) == len(first) and "of these below -0.5: 3" in said(figure)
    assert axes.get_xlim() == axes.get_ylim() and axes.get_ylim()[0] < LOWEST_FEVE
    assert axes.get_xlabel() == "FEVE, patch" and axes.get_ylabel() == "FEVE, cls"
    near = scatter(first, first, names=("a", "b")).axes[0].get_ylim()
    assert 0 < near[0] < 0.1 and 0.9 < near[1] < 1
    assert "no neuron is valid in both" in said(scatter(first, ALL_NAN, names=("a", "b")))


def test_fev_against_feve_counts_both_kinds_of_neurons():
    rows = ONE_CONDITION.assign(fev=np.where(np.arange(len(ONE_CONDITION)) < 5, 0.1, 0.5))
    assert "(n = 5)" in said(feve_against_fev(rows)) and "(n = 35)" in said(feve_against_fev(rows))
    assert points(feve_against_fev(rows.head(1))) == 1
    assert "no neuron has a FEVE" in said(feve_against_fev(rows.assign(feve=np.nan)))


def test_maps_show_the_grid_and_the_best_neurons():
    rows = ONE_CONDITION
    figure = spatial_maps(readouts_of(len(rows)), rows, input_size=(64, 128))
    drawn = [axes for axes in figure.axes if axes.images]
    assert len(drawn) == 12
    best = rows.loc[rows["feve"].idxmax()]
    assert f"neuron {best['neuron']}\nFEVE {best['feve']:.2f}" == drawn[0].get_title()
    assert drawn[0].images[0].get_array().shape == (4, 8)
    assert drawn[0].get_xlim() == (0, 128) and drawn[0].get_ylim() == (64, 0)
    one = spatial_maps(readouts_of(1), rows.head(1), input_size=(64, 128))
    assert sum(bool(axes.images) for axes in one.axes) == 1
    nothing = rows.assign(feve=np.nan)
    assert len(spatial_maps(readouts_of(len(rows)), nothing, input_size=(64, 128)).axes) == 12


def test_centres_are_weighted_means_of_positions():
    one = Readouts(
        row_weights=np.array([[0, 0, 1, 0], [0, 0, 0, 0]], np.float32),
        column_weights=np.array([[1, 1, 0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0, 0]], np.float32),
        channel_weights=np.zeros((2, 3), np.float32), bias=np.zeros(2, np.float32),
        scale=np.ones(2, np.float32),
    )  # fmt: skip
    where = centres(one, input_size=(64, 128))
    np.testing.assert_allclose(where[0], [40, 16])
    assert np.isnan(where[1, 0])
    unplaced = ONE_CONDITION.head(2).assign(x=np.nan, y=np.nan)
    assert "no neuron has a position" in said(
        centres_over_cortex(one, unplaced, input_size=(64, 128))
    )


def test_maps_and_centres_are_at_the_patches_true_places():
    # Every 8 pixels from 8 on: the last patch of 16 lies around the image's edge.
    places = Places(stride=(8, 8), first_centre=(8, 8), passes=4)
    one = Readouts(
        row_weights=np.eye(8, dtype=np.float32)[[0, 7]],
        column_weights=np.eye(16, dtype=np.float32)[[1, 15]],
        channel_weights=np.zeros((2, 3), np.float32), bias=np.zeros(2, np.float32),
        scale=np.ones(2, np.float32),
    )  # fmt: skip
    where = centres(one, input_size=(64, 128), places=places)
    np.testing.assert_allclose(where, [[8, 16], [64, 128]])
    drawn = spatial_maps(one, ONE_CONDITION.head(2), input_size=(64, 128), places=places).axes[0]
    assert drawn.images[0].get_extent() == [4, 132, 68, 4]
    assert drawn.get_xlim() == (0, 128) and drawn.get_ylim() == (64, 0)
    np.testing.assert_allclose(drawn.get_xticks(minor=True)[:2], [4, 12])


def test_random_weights_are_noted_where_no_name_tells_them():
    random = ONE_CONDITION.assign(weights="random")
    control = random.assign(model="vit+random")
    tables = {"run": None, "summary": None, "curves": None}
    assert Tables(neurons=random, **tables).note == "random weights"
    both = pd.concat([ONE_CONDITION.assign(weights="hub"), control])
    assert Tables(neurons=both, **tables).note == ""
    assert "are controls" in warnings(both, {})[0]


def test_learning_curves_have_a_line_each_and_whole_epochs():
    curves = curves_of(neurons_table(tunings=("frozen", "last2")))
    figure = learning_curves(curves)
    assert [axes.get_title() for axes in figure.axes] == ["frozen", "last 2 tuned"]
    for axes in figure.axes:
        assert len(axes.lines) == 2 * 3
        assert all(float(tick).is_integer() for tick in axes.get_xticks())
    assert "mouse" in figure.get_suptitle()
    assert "no condition has a learning curve" in said(learning_curves(curves.iloc[:0]))
    single = curves_of(ONE_CONDITION, epochs=1)
    assert len(learning_curves(single).axes[0].lines) == 1


def test_curves_of_fits_that_do_not_learn_by_epochs_are_left_out():
    curves = curves_of(neurons_table(tunings=("frozen", "last2"), blocks=(4,)))
    figure = learning_curves(curves.assign(solver="als"))
    assert [axes.get_title() for axes in figure.axes] == ["last 2 tuned"]
    frozen = curves[curves["tuning"] == "frozen"].assign(solver="als")
    assert "no condition has a learning curve" in said(learning_curves(frozen))
