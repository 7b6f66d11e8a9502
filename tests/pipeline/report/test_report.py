"""The report: its sentences, its warnings, and the page in a real browser."""

import base64
import gzip
import json
import re

import numpy as np
import pandas as pd
import pytest
from support.reports import made_up_readouts, make_report
from support.tables import (
    cnn_table,
    core_table,
    curves_of,
    full_table,
    neurons_table,
    resolution_of,
    summary_of,
)

from pipeline.report.alt import alt_texts
from pipeline.report.answer import answer, differences, warnings
from pipeline.report.figures.draw import FIGURES, Tables, wanted_figures
from pipeline.report.figures.style import save_figure
from pipeline.report.key import REPORT, report_key
from pipeline.report.page import _uncertainty, write_report
from pipeline.report.report import report_run
from pipeline.report.tables import best_table, plain_table
from pipeline.results.statistics import best_blocks
from pipeline.results.tables import CURVES, NEURONS, SUMMARY
from pipeline.terminal import Terminal


def tuned(**changes):
    return neurons_table(tunings=("frozen", "last0", "last2"), **changes)


def test_three_sentences_with_numbers():
    sentences = answer(tuned())
    assert len(sentences) == 3
    assert "last 2 tuned" in sentences[0] and "block 4" in sentences[0]
    assert re.search(r"mean FEVE 0\.\d{3} \(95 % CI 0\.\d{3} to 0\.\d{3}\)", sentences[0])
    assert "Against last 0 tuned" in sentences[1] and "95 % CI" in sentences[1]
    assert "chosen on validation" in sentences[2]


def test_the_winner_s_number_is_the_table_s():
    neurons = neurons_table(tokens=("patch",))
    summary = summary_of(neurons).set_index("block")
    assert f"{summary.loc[4, 'mean_feve']:.3f}" in answer(neurons)[0]


def test_the_report_says_how_sure_a_single_neuron_is():
    assert "± 0.030" in _uncertainty(neurons_table())
    assert _uncertainty(neurons_table().assign(feve_se=np.nan)) == ""
    assert _uncertainty(neurons_table().drop(columns="feve_se")) == ""


def test_nothing_valid_is_said_and_does_not_fail():
    neurons = neurons_table().assign(feve=np.nan)
    assert "nothing to compare" in answer(neurons)[0]
    assert any("no valid neuron" in text for text in warnings(neurons, {}))
    assert differences(neurons).empty


def test_tuned_series_are_compared_with_their_own_reference():
    table = differences(tuned(models=("vit_a", "vit_b")))
    assert len(table) == 2 * 2 * 2
    for row in table.to_dict("records"):
        assert ("vit_a" in row["condition"]) == ("vit_a" in row["against"])
        assert ("last 0" in row["against"]) == ("last 2" in row["condition"])
        assert ("frozen" in row["against"]) == ("last 0" in row["condition"])
        assert row["difference"] == pytest.approx(0.1, abs=0.03)
        assert row["low"] < row["difference"] < row["high"]


def test_a_core_beside_a_backbone_is_compared_with_either_alone():
    frozen = neurons_table(tokens=("patch",))
    cnn = cnn_table()
    cnn["feve"] -= 0.2
    neurons = pd.concat([frozen, cnn, core_table()], ignore_index=True)
    winner, difference, _ = answer(neurons)
    assert "CNN + vit_small, 66x130+64x128, core trained, patch tokens, block 4" in winner
    assert difference.startswith("Against CNN fullmodel")
    assert "; against vit_small" in difference and difference.count("paired difference is +0.") == 2
    found = differences(neurons)
    assert found["against"].str.contains("fullmodel").tolist() == [True, False]
    assert found["difference"].tolist() == pytest.approx([0.3, 0.1], abs=0.03)


def test_a_better_frozen_fit_of_another_solver_is_no_reference():
    ours = tuned(tokens=("patch",)).assign(solver="als")
    other = neurons_table(tokens=("patch",))
    other["feve"] -= 0.4
    neurons = pd.concat([other, ours], ignore_index=True)
    for text in (answer(neurons)[1], *differences(neurons)["difference"].map("{:+.3f}".format)):
        assert "+0.1" in text or "+0.09" in text
    assert "last 0 tuned, matched, als" in answer(neurons)[1]


def test_names_are_neither_markup_nor_formulas(tmp_path, monkeypatch):
    name = "</script><img src=x onerror=alert(1)> $x^{$ [/left] {y}"
    neurons = neurons_table(tokens=("cls",), recordings=(name,), positions=False)
    tables = Tables(tmp_path, neurons, summary_of(neurons), curves_of(neurons))
    drawn = [draw() for _, draw in wanted_figures(tables)]
    for number, figure in enumerate(drawn):
        save_figure(figure, tmp_path / str(number))
    assert any("$x^{$" in path.read_text() for path in tmp_path.glob("*.svg"))
    (tmp_path / "report.html").unlink(missing_ok=True)
    monkeypatch.setattr("pipeline.report.stored.saved_readouts", lambda *_: made_up_readouts(40))
    write_report(tables, [], {"settings": {"recording": [{"name": name}]}}, key="0")
    page = (tmp_path / "report.html").read_text()
    assert "<img src=x" not in page and "</script><img" not in page


def test_warnings():
    neurons = neurons_table(tokens=("patch",), n_neurons=20)
    neurons.loc[neurons["block"] == 5, "val_varexp"] += 1
    neurons.loc[neurons["block"] == 4, "feve"] += 0.1
    provenance = {"caches": {"c.zarr": {"key": "k", "not re-checked": ["images"]}}}
    said = " ".join(warnings(neurons, provenance))
    assert "weights are random" in said
    assert "valid neurons" in said
    assert "validation chooses block 5" in said and "would choose block 4" in said
    assert "images were not at hand" in said
    trained = neurons_table(tokens=("patch",), n_neurons=200).assign(weights="hub")
    assert warnings(trained, {}) == []
    for recording in ({"format": "synthetic", "name": "p"}, [{"format": "synthetic", "name": "p"}]):
        (said,) = warnings(trained, {"settings": {"recording": recording}})
        assert "neurons of p are synthetic" in said and "block 4" in said


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The report of two models and three tunings, in a folder with a difficult name."""
    folder = tmp_path_factory.mktemp("reports") / "a folder, née"
    return make_report(folder, tuned(models=("vit+stride16", "vit+stride8"), n_neurons=30))


def test_the_page_needs_no_other_file_and_no_network(report):
    page = re.sub(r"(?s)<script type=.module.>.*?</script>", "", report.read_text())
    outside = [
        found
        for found in re.findall(r"""(?:src|href)\s*=\s*["']?([^"'\s>]+)""", page)
        if not found.startswith(("data:", "#"))
    ]
    assert outside == []
    assert report_key(report) == "ab12"


def test_every_figure_comes_as_png_and_svg(report):
    made = {path.name for path in (report.parent / "figures").iterdir()}
    assert made == {f"{name}.{kind}" for name in FIGURES for kind in ("png", "svg")}
    texts = re.findall(r'<img [^>]*alt="([^"]*)"', report.read_text())
    assert len(texts) >= len(FIGURES) and all(re.search(r"\d", text) for text in texts), texts


def test_redrawing_deletes_old_figures_of_ours_only(tmp_path, monkeypatch):
    neurons, figures = tuned(n_neurons=30), tmp_path / "figures"
    (tmp_path / NEURONS).parent.mkdir()
    neurons.to_parquet(tmp_path / NEURONS)
    summary_of(neurons).to_csv(tmp_path / SUMMARY)
    curves_of(neurons).to_parquet(tmp_path / CURVES)
    (figures / "notes/old").mkdir(parents=True)
    own = {"photo.png", "learning_curves.pdf", "learning_curves", "notes"}
    former = {"learning_curves.svg", "feve_per_block_models.png", "feve_per_block_models_tuned.png"}
    for name in own - {"notes"} | former:
        (figures / name).write_text("mine, unless a figure of vitv1 has this name")
    drawn = figures / "best_block_bars.png"
    monkeypatch.setattr("pipeline.report.figures.draw.wanted_figures", lambda tables: [])
    monkeypatch.setattr("pipeline.report.figures.draw.draw_figures", lambda *_, **__: [drawn])
    monkeypatch.setattr("pipeline.report.page.write_report", lambda *_, **__: None)
    assert report_run(tmp_path, Terminal()) == [tmp_path / REPORT, drawn]
    assert {path.name for path in figures.iterdir()} == own


def test_edge_cases_have_a_report(tmp_path):
    for number, neurons in enumerate(
        [
            neurons_table(blocks=(4,), tokens=("patch",), n_neurons=1),
            neurons_table(positions=False).assign(feve=np.nan),
            cnn_table(),
        ]
    ):
        assert make_report(tmp_path / str(number), neurons).exists()


def test_blocks_are_whole_numbers_where_a_cnn_has_none():
    neurons = full_table()
    rows = best_blocks(neurons)
    assert rows["block"].dtype == rows["test_block"].dtype == "Int64"
    page = plain_table(best_table(rows)) + plain_table(differences(neurons))
    said = (
        page
        + " ".join(answer(neurons) + warnings(neurons, {}))
        + " ".join(
            text
            for row in differences(neurons)[["condition", "against"]].to_numpy()
            for text in row
        )
    )
    assert "block 4" in said and "4.0" not in said and "4.000" not in said and "NA" not in said


def test_alternative_texts_have_the_numbers_of_the_figures(tmp_path):
    neurons = full_table(tokens=("patch",))
    summary = summary_of(neurons)
    said = alt_texts(Tables(tmp_path, neurons, summary, curves_of(neurons)))
    assert set(said) == set(FIGURES)
    four = summary[(summary["tuning"] == "frozen") & (summary["block"] == 4)]
    mean = four["mean_feve"].item()
    assert f"highest {mean:.2f} at block 4" in said["feve_per_block"]
    for name in ("best_block_bars", "feve_by_tuning"):
        last = summary.loc[summary["tuning"] == "last2", "mean_feve"].item()
        assert f"last 2 tuned: {last:.3f}" in said[name] or f"{last:.3f}" in said[name]
    assert (
        " of 40 neurons" in said["best_two_conditions"] or "neurons" in said["best_two_conditions"]
    )
    assert all(len(text) > len(FIGURES[name]) + 10 for name, text in said.items()
               if name not in ("feve_by_resolution", "feve_per_block_models",))  # fmt: skip


def test_the_answer_begins_with_finer_tokens_where_they_are_swept(tmp_path):
    neurons = neurons_table(models=("vit+stride16", "vit+stride8"), tokens=("patch",))
    table = resolution_of(neurons)
    assert answer(neurons, table)[0].startswith("Finer tokens")
    assert answer(neurons, table)[1:] == answer(neurons) == answer(neurons, table.iloc[:0])
    tables = Tables(tmp_path, neurons, summary_of(neurons), curves_of(neurons), table)
    said = alt_texts(tables)["feve_by_resolution"]
    assert f"tokens every 8 pixels: {table['mean_feve'][1]:.3f}" in said


def luminance(colour):
    """Relative luminance of an sRGB colour (WCAG 2.2)."""
    values = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values)
    return sum(w * v for w, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_specifications_are_vega_lite(tmp_path):
    import vl_convert

    page = make_report(
        tmp_path / "run", full_table(models=("vit_a", "vit_b")), drawn=()
    ).read_text()
    packed = re.search(r'id="charts-data">([^<]*)<', page)[1]
    found = json.loads(gzip.decompress(base64.b64decode(packed)))
    assert set(found["charts"]) == {"fev", "reference", "blocks", "map", "tests"}
    for spec in found["charts"].values():
        assert vl_convert.vegalite_to_vega(spec)["marks"]
    # Lines can be seen on the dark page, too: a contrast of 3, as WCAG asks for of graphics.
    tones = found["charts"]["blocks"]["encoding"]["color"]["scale"]["range"]
    assert len(tones) > 4 and min(map(luminance, tones)) + 0.05 > 3 * (luminance("#14171c") + 0.05)
    values = np.frombuffer(base64.b64decode(found["tests"]["values"]), np.uint8)
    assert values.size == 2 * 40 * len(found["tests"]["images"])


def test_a_report_of_5000_neurons_is_under_3_mb(tmp_path):
    neurons = full_table(models=("vit_a", "vit_b"), n_neurons=5000)
    assert make_report(tmp_path / "run", neurons, n_test=500).stat().st_size < 3e6
