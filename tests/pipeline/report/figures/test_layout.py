"""Every figure's layout: one size and font, nothing cut or covered, labels once, kinds' colours."""

import itertools
from functools import partial

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text
from support.tables import curves_of, full_table, neurons_table, resolution_of, summary_of

from pipeline.report.figures import (
    COLOURS,
    best_block_bars,
    best_block_violins,
    centres_over_cortex,
    feve_against_fev,
    feve_by_tuning,
    feve_per_block,
    learning_curves,
    models_per_block,
    scatter,
    spatial_maps,
    tuned_per_block,
)
from pipeline.report.figures.draw import Tables, wanted_figures
from pipeline.report.figures.style import FONT, SIZE
from pipeline.results.statistics import best_blocks, rows_of
from stages.readouts.readout import Readouts

S, B = (f"vit_{size}_patch16_dinov3.lvd1689m" for size in ("small", "base"))
LONG = "_a mouse whose name is as long as a date, a place and a protocol: 2023_05_16"


def readouts_of(n):
    rng = np.random.default_rng(0)
    sides = {f"{name}_weights": rng.random((n, k), np.float32) for name, k in
             (("row", 4), ("column", 8), ("channel", 3))}  # fmt: skip
    return Readouts(**sides, bias=np.zeros(n, np.float32), scale=np.ones(n, np.float32))


TABLES = {
    "one block": partial(neurons_table, blocks=(4,), tokens=("patch",)),
    "tuned and CNNs": partial(full_table, models=(S, B), recordings=("FX10",)),
    "long names": partial(
        neurons_table, models=(f"{S}+stride16", f"{S}+stride8", "_mine"),
        recordings=(LONG, "FX8"), seeds=(0, 1),
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=TABLES)
def drawn(request, tmp_path_factory):
    """All figures of a table, laid out, by name."""
    neurons = TABLES[request.param]()
    tables = Tables(
        tmp_path_factory.mktemp("run"), neurons, summary_of(neurons), curves_of(neurons),
        resolution_of(neurons),
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.report.figures.draw.saved_readouts",
                      lambda *_: readouts_of(neurons["neuron"].nunique()))  # fmt: skip
        figures = {name: draw() for name, draw in wanted_figures(tables)}
    for figure in figures.values():
        FigureCanvasAgg(figure).draw()
    return figures


def texts_of(figure):
    """The texts that are seen."""
    return [
        text for text in figure.findobj(Text)
        if text.get_visible() and text.get_text().strip()
        and (text.axes is None or text.axes.axison or text not in text.axes.texts)
    ]  # fmt: skip


def boxes(figure):
    """The texts and their boxes in pixels, without ticks outside the axes."""
    renderer, out = figure.canvas.get_renderer(), []
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        for tick in axis.get_major_ticks():
            out += [tick.label2] + [tick.label1] * (not low <= tick.get_loc() <= high)
    for text in texts_of(figure):
        if text not in out:
            yield text, text.get_window_extent(renderer)


def test_no_text_is_cut(drawn):
    for name, figure in drawn.items():
        whole = figure.bbox.padded(1)
        for text, box in boxes(figure):
            seen = whole.x0 <= box.x0 and box.x1 <= whole.x1
            assert seen and whole.y0 <= box.y0 and box.y1 <= whole.y1, (name, text)


def test_titles_legends_and_labels_do_not_cover_each_other(drawn):
    for name, figure in drawn.items():
        outside = []
        for axes in figure.axes:
            legend = axes.get_legend()
            outside += legend.get_texts() if legend else []
            outside += [*axes.get_yticklabels(), axes.yaxis.label, axes.xaxis.label]
        outside.append(figure._suptitle)
        found = [(text, box) for text, box in boxes(figure) if text in outside]
        for (one, first), (other, second) in itertools.combinations(found, 2):
            apart = first.padded(-1)
            assert not apart.overlaps(second.padded(-1)), (name, one, other)


def test_one_size_and_one_font(drawn):
    for name, figure in drawn.items():
        width, height = figure.get_size_inches()
        assert width == SIZE[0] and (height == SIZE[1] or height > SIZE[1]), name
        assert {text.get_fontsize() for text in texts_of(figure)} == {FONT}, name
    assert drawn["feve_against_fev"].get_size_inches()[1] == SIZE[1]


def test_blocks_are_whole_numbers_and_nothing_is_na(drawn):
    for name, figure in drawn.items():
        for text in texts_of(figure):
            said = text.get_text()
            assert "<NA>" not in said and "nan" not in said, name
            assert not any(f"block {n}." in said for n in range(12)), (name, said)


def test_labels_say_only_what_differs():
    figure = best_block_bars(full_table(models=(S,)))
    labels = [text.get_text().replace("\n", " ") for text in figure.axes[0].get_yticklabels()]
    assert all("mouse" not in label and "block" not in label for label in labels)
    assert "mouse" in figure.get_suptitle() and "block 4" in figure.get_suptitle()
    assert sum("matched" in label for label in labels) == 0


def test_bars_go_from_frozen_over_last_0_to_full():
    figure = feve_by_tuning(full_table(models=(S,)))
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels == ["frozen", "last 0 tuned", "last 1 tuned", "last 2 tuned", "all tuned"]
    assert "block 4" in figure.get_suptitle()
    bars = [to_hex(bar.get_facecolor()) for bar in figure.axes[0].patches]
    kinds = ("frozen", "last0", "last", "last", "full")
    assert bars == [COLOURS[kind].lower() for kind in kinds]


def test_every_block_has_a_tick_and_the_chosen_one_a_ring():
    neurons = neurons_table(blocks=range(12), tokens=("patch",))
    neurons.loc[neurons["block"] == 7, "val_varexp"] += 1
    figure = feve_per_block(summary_of(neurons), chosen=best_blocks(neurons))
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_xticklabels()] == [str(b) for b in range(12)]
    rings = [line for line in axes.lines if line.get_markersize() == 12]
    assert [line.get_xdata().tolist() for line in rings] == [[7]]
    assert "block chosen on validation" in [t.get_text() for t in axes.get_legend().get_texts()]


def test_names_that_begin_with_an_underscore_stay_in_legends():
    figure = models_per_block(summary_of(neurons_table(models=("_mine", "vit_a"))))
    labels = [text.get_text().strip() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == ["_mine", "vit_a"]


def test_error_bars_are_seen_on_black():
    figure = best_block_bars(full_table(), colours={"frozen": "#000000"})
    assert to_hex(figure.axes[0].patches[0].get_facecolor()) == "#000000"
    for container in figure.axes[0].containers:
        for drawn in getattr(container, "lines", ((), (), ()))[2:]:
            assert all(len(bars.get_path_effects()) == 2 for bars in drawn)


@pytest.mark.parametrize("place", ["alone", "in a grid"])
def test_figures_are_drawn_into_axes_of_the_caller(place):
    neurons = full_table()
    summary, top = summary_of(neurons), rows_of(neurons, best_blocks(neurons).iloc[0])
    maps = readouts_of(len(top))
    drawings = [
        partial(draw, table, colours=COLOURS)
        for draw, table in (
            (feve_per_block, summary), (tuned_per_block, summary), (models_per_block, summary),
            (best_block_bars, neurons), (best_block_violins, neurons), (feve_by_tuning, neurons),
            (feve_against_fev, top), (learning_curves, curves_of(neurons)),
        )
    ]  # fmt: skip
    drawings.append(partial(scatter, top, top, names=("a", "b"), colours=COLOURS))
    for draw in (spatial_maps, centres_over_cortex):
        drawings.append(partial(draw, maps, top, input_size=(64, 128), colours="magma"))
    figure = Figure(figsize=(30, 20))
    grid = figure.subplots(3, 4).ravel() if place == "in a grid" else None
    for number, draw in enumerate(drawings):
        axes = figure.add_subplot() if grid is None else grid[number]
        assert draw(ax=axes) is figure
        assert tuple(figure.get_size_inches()) == (30, 20)
        if grid is None:
            figure.clear()
    FigureCanvasAgg(figure).draw()


def test_panels_need_a_place_in_a_grid():
    axes = Figure().add_axes((0, 0, 1, 1))
    with pytest.raises(ValueError, match=r"plt\.subplots"):
        learning_curves(pd.DataFrame(curves_of(neurons_table())), ax=axes)
