"""The page in a real browser: widths, dark and print, tables, enlarging, and neurons to look at."""

import os
import shutil
from pathlib import Path

import pytest
from support.reports import make_report
from support.tables import full_table


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A report with tuned conditions and CNNs, in a folder with a difficult name."""
    folder = tmp_path_factory.mktemp("reports") / "a folder, née"
    table = full_table(models=("vit_a", "_mine"), n_neurons=30)
    return make_report(folder, table, drawn={"feve_per_block", "feve_by_tuning", "spatial_maps"})


@pytest.fixture(scope="module")
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


@pytest.fixture
def opened(report, browser):
    """Open the report; whatever the console says, and every request, is a fault."""
    pages, faults = [], []

    def open_page(width=1200, scheme="light"):
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.on("console", lambda said: faults.append(said.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda r: faults.append(r.url) if r.url.startswith("http") else None)
        page.goto(report.as_uri())
        page.locator("#conditions-table tbody tr").nth(1).wait_for()
        page.locator("#chart-tests svg").wait_for()
        pages.append(page)
        return page

    yield open_page
    if "VITV1_SCREENSHOTS" in os.environ:
        for number, page in enumerate(pages):
            page.screenshot(path=Path(os.environ["VITV1_SCREENSHOTS"]) / f"{number}.png")
    for page in pages:
        page.close()
    assert faults == []


def column(page, name):
    """Texts of a column of the conditions table."""
    header = page.locator("#conditions-table thead tr").first.locator("th", has_text=name).first
    index = header.evaluate("th => th.cellIndex") + 1
    return page.locator(f"#conditions-table tbody tr td:nth-child({index})").all_inner_texts()


@pytest.mark.parametrize(("width", "scheme"), [(400, "dark"), (1200, "light"), (1600, "dark")])
def test_widths_and_colours(opened, width, scheme):
    page = opened(width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    sizes = page.locator("figure img, .chart").evaluate_all("xs => xs.map(x => x.clientWidth)")
    assert min(sizes) > 250
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") == (scheme == "light")
    labels = page.locator("#chart-tests svg text").first.evaluate("t => getComputedStyle(t).fill")
    assert (labels == "rgb(230, 234, 238)") == (scheme == "dark")
    headers = page.locator("#conditions-table thead tr").first.locator("th:visible")
    names = [text.strip() for text in headers.all_inner_texts()]
    assert names[:3] == ["condition", "block", "mean_feve"] and (len(names) == 3) == (width == 400)
    # The mean is on the first screen, with its value.
    box = page.locator("#conditions-table tbody tr td:nth-child(3)").first.bounding_box()
    assert box["x"] + box["width"] <= width
    assert width == 400 or box["y"] + box["height"] <= 900


def test_print_has_the_means_and_no_controls(opened):
    page = opened()
    page.emulate_media(media="print", color_scheme="dark")
    page.set_viewport_size({"width": 720, "height": 1000})  # A4 without its margins
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("nav, .look, .charts, .filters").locator("visible=true").count() == 0
    # No word of a header is broken.
    titles = page.locator("#conditions-table thead tr:first-child th:visible .dt-column-title")
    assert max(box.bounding_box()["height"] for box in titles.all()) < 30
    box = page.locator("#conditions-table tbody tr td:nth-child(3)").first.bounding_box()
    assert box["x"] + box["width"] <= 720
    assert page.locator("figure img").first.is_visible()


def test_tables_sort_and_filter_by_what_stands_in_the_headers(opened):
    page = opened()
    header = page.locator("#conditions-table thead tr").first.locator("th", has_text="mean_feve")
    orders = []
    for _ in range(2):
        header.locator(".dt-column-order").click()
        orders.append([float(text) for text in column(page, "mean_feve")])
    assert orders[0] == sorted(orders[0])
    assert orders[1] == sorted(orders[1], reverse=True) and orders[1][0] > orders[0][-1]
    page.get_by_label("filter condition").press_sequentially('"last 2"')
    page.wait_for_function(
        "[...document.querySelectorAll('#conditions-table tbody tr')]"
        ".every(row => row.innerText.includes('last 2'))"
    )
    assert column(page, "condition")


def test_escape_closes_an_enlarged_figure(opened):
    page = opened()
    button = page.locator("figure button").first
    small = button.locator("img").evaluate("x => x.clientWidth")
    button.click()
    assert page.locator("#zoom img").evaluate("x => x.clientWidth") > 1.5 * small
    page.keyboard.press("Escape")
    assert not page.locator("#zoom").is_visible()
    button.focus()
    page.keyboard.press("Enter")
    page.locator("#zoom img").click()
    assert not page.locator("#zoom").is_visible()


def test_a_neuron_shows_its_numbers_its_map_and_its_responses(opened):
    page = opened()
    field, said = page.locator("#neuron-number"), page.locator("#neuron-said")
    first = page.locator("#chart-map svg").inner_html()
    field.fill("7")
    field.press("Enter")
    page.wait_for_function("document.querySelector('#neuron-said').innerText.includes('Neuron 7:')")
    assert "FEVE" in said.inner_text() and "unit 1007" in said.inner_text()
    page.wait_for_function("old => document.querySelector('#chart-map svg').innerHTML !== old",
                           arg=first)  # fmt: skip
    assert page.locator("#chart-tests svg .mark-symbol path").count() == 50
    dot = page.locator("#chart-fev svg .mark-symbol path").nth(3)
    dot.hover(force=True)
    tip = page.locator("#vg-tooltip-element")
    tip.wait_for()
    assert all(word in tip.inner_text() for word in ("neuron", "unit", "FEVE", "FEV"))
    number = tip.locator("td.value").first.inner_text()
    dot.click(force=True)
    page.wait_for_function(
        "n => document.querySelector('#neuron-said').innerText.includes(`Neuron ${n}:`)", arg=number
    )
    field.fill("999")
    field.press("Enter")
    assert "no neuron 999" in said.inner_text()


def test_contents_lead_to_headings_and_figures_have_texts_with_numbers(opened):
    page = opened()
    for link in page.locator("nav a").all():
        target = link.get_attribute("href")
        assert page.locator(f"h2{target}").count() == 1, target
    for text in page.locator("figure img").evaluate_all("xs => xs.map(x => x.alt)"):
        assert any(sign.isdigit() for sign in text), text
