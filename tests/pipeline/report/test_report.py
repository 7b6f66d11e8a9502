"""The report: its sentences, its warnings, and the page in a real browser."""

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.tables import curves_of, neurons_table, summary_of

from pipeline.report.answer import answer, differences, warnings
from pipeline.report.figures.draw import FIGURES, Tables, draw_figures, wanted_figures
from pipeline.report.figures.style import save_figure
from pipeline.report.key import REPORT, report_key
from pipeline.report.page import _uncertainty, write_report
from pipeline.report.report import report_run
from pipeline.results.tables import CURVES, NEURONS, SUMMARY
from pipeline.terminal import Terminal
from stages.readouts.readout import Readouts


def tuned(**changes):
    return neurons_table(tunings=("frozen", "last0", "last2"), **changes)


def test_three_sentences_with_numbers():
    sentences = answer(tuned())
    assert len(sentences) == 3
    assert "last 2 tuned" in sentences[0] and "block 4" in sentences[0]
    assert re.search(r"mean FEVE 0\.\d{3} ± 0\.\d{3} \(s\.e\.m\.\)", sentences[0])
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


def test_a_better_frozen_fit_of_another_solver_is_no_reference():
    ours = tuned(tokens=("patch",)).assign(solver="als")
    other = neurons_table(tokens=("patch",))
    other["feve"] -= 0.4
    neurons = pd.concat([other, ours], ignore_index=True)
    for text in (answer(neurons)[1], *differences(neurons)["difference"].map("{:+.3f}".format)):
        assert "+0.1" in text or "+0.09" in text
    assert "last 0 tuned, matched, als" in answer(neurons)[1]


def test_names_are_neither_markup_nor_formulas(tmp_path):
    name = "</script><img src=x onerror=alert(1)> $x^{$ [/left] {y}"
    neurons = neurons_table(tokens=("cls",), recordings=(name,), positions=False)
    tables = Tables(tmp_path, neurons, summary_of(neurons), curves_of(neurons))
    drawn = [draw() for _, draw in wanted_figures(tables)]
    for number, figure in enumerate(drawn):
        save_figure(figure, tmp_path / str(number))
    assert any("$x^{$" in path.read_text() for path in tmp_path.glob("*.svg"))
    (tmp_path / "report.html").unlink(missing_ok=True)
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


def make_report(run: Path, neurons: pd.DataFrame) -> Path:
    """Figures (coarse, to save time) and report of made-up tables in a folder."""
    rng = np.random.default_rng(0)
    n = neurons["neuron"].nunique()

    def readouts(_run, _condition):
        return Readouts(
            row_weights=rng.random((n, 4), np.float32),
            column_weights=rng.random((n, 8), np.float32),
            channel_weights=np.zeros((n, 3), np.float32),
            bias=np.zeros(n, np.float32),
            scale=np.ones(n, np.float32),
        )

    tables = Tables(
        run=run, neurons=neurons, summary=summary_of(neurons), curves=curves_of(neurons)
    )
    run.mkdir(parents=True, exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.report.figures.draw.saved_readouts", readouts)
        patch.setattr("pipeline.report.figures.style.DPI", 40)
        figures = draw_figures(tables)
    assert {path.stem for path in figures} <= set(FIGURES)
    write_report(tables, figures, {"settings": {"run": {"seed": 0}}}, key="ab12")
    return run / REPORT


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The report of two models and three tunings, in a folder with a difficult name."""
    folder = tmp_path_factory.mktemp("reports") / "a folder, née"
    return make_report(folder, tuned(models=("vit_a", "vit_b"), n_neurons=30))


def test_the_page_needs_no_other_file_and_no_network(report):
    outside = [
        found
        for found in re.findall(r"""(?:src|href)\s*=\s*["']?([^"'\s>]+)""", report.read_text())
        if not found.startswith(("data:", "#"))
    ]
    assert outside == []
    assert report_key(report) == "ab12"


def test_every_figure_comes_as_png_and_svg(report):
    made = {path.name for path in (report.parent / "figures").iterdir()}
    assert made == {f"{name}.{kind}" for name in FIGURES for kind in ("png", "svg")}


def test_redrawing_deletes_old_figures_of_ours_only(tmp_path, monkeypatch):
    neurons, figures = tuned(n_neurons=30), tmp_path / "figures"
    (tmp_path / NEURONS).parent.mkdir()
    neurons.to_parquet(tmp_path / NEURONS)
    summary_of(neurons).to_csv(tmp_path / SUMMARY)
    curves_of(neurons).to_parquet(tmp_path / CURVES)
    (figures / "notes/old").mkdir(parents=True)
    own = {"photo.png", "learning_curves.pdf", "learning_curves", "notes"}
    for name in own - {"notes"} | {"learning_curves.svg", "feve_per_block_models.png"}:
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
            neurons_table(blocks=(4,), tokens=("patch",)).assign(
                block=pd.NA, blocks=None, tokens=None, model="cnn_fullmodel", tuning="full"
            ),
        ]
    ):
        assert make_report(tmp_path / str(number), neurons).exists()


@pytest.fixture
def browser():
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("no chromium on this machine")
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as play:
        opened = play.chromium.launch(
            executable_path=path,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield opened
        opened.close()


def test_sorting_filtering_and_widths_in_a_browser(report, browser):
    page = browser.new_page(viewport={"width": 1600, "height": 1000})
    faults = []
    page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda r: faults.append(r.url) if r.url.startswith("http") else None)
    page.goto(report.as_uri())
    body = page.locator("#conditions-table tbody")
    body.locator("tr").nth(1).wait_for()
    assert body.locator("tr").count() > 5

    column = page.locator("#conditions thead th:has(input[placeholder='mean_feve'])")
    index = column.first.evaluate("th => th.cellIndex")

    def values():
        cells = body.locator(f"tr td:nth-child({index + 1})").all_inner_texts()
        return [float(text) for text in cells]

    orders = []
    for _ in range(2):
        column.first.locator(".dt-column-order").first.click()
        page.wait_for_timeout(300)
        orders.append(values())
    assert orders[0] == sorted(orders[0])
    assert orders[1] == sorted(orders[1], reverse=True) and orders[1][0] > orders[0][-1]

    page.locator("#conditions input[type=search]").last.fill("last2")
    page.wait_for_timeout(300)
    texts = body.locator("tr").all_inner_texts()
    assert texts and all("last2" in text for text in texts)

    for width in (1600, 400):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        sizes = page.locator("figure img").evaluate_all("xs => xs.map(x => x.clientWidth)")
        assert min(sizes) > 250
    page.set_viewport_size({"width": 1000, "height": 900})
    image = page.locator("figure img").first
    small = image.evaluate("x => x.clientWidth")
    image.click()
    assert image.evaluate("x => x.clientWidth") > 1.5 * small
    if "VITV1_SCREENSHOTS" in os.environ:
        page.screenshot(path=Path(os.environ["VITV1_SCREENSHOTS"]) / "zoomed.png")
    assert faults == []
