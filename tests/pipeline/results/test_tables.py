"""The summary's rows and conditions, read without pandas as pandas would read them."""

import csv
import subprocess
import sys

import pandas as pd
import pytest
from support.tables import neurons_table, summary_of

from pipeline.results.tables import SUMMARY, read_summary, summary_rows, tabulated, write_csv
from stages.conditions import IDENTITY, Condition, is_null


@pytest.fixture
def run(tmp_path):
    """A run whose summary holds a ViT's frozen and tuned conditions, a CNN, and difficult names."""
    vits = summary_of(neurons_table(tunings=("frozen", "last2"), recordings=('a, "b"', "née")))
    cnn = vits[:1].assign(
        model="cnn_fullmodel", tuning="full", protocol=pd.NA, tokens=pd.NA, block=pd.NA,
        blocks=pd.NA, solver=pd.NA, n_valid=0, mean_feve=float("nan"), sem_feve=float("nan"),
    )  # fmt: skip
    (tmp_path / "results").mkdir()
    pd.concat([vits, cnn], ignore_index=True).to_csv(tmp_path / SUMMARY, index=False)
    return tmp_path


def test_rows_are_those_of_the_frame(run):
    frame, rows = read_summary(run), summary_rows(run)
    assert list(rows[0]) == list(frame.columns)
    for row, expected in zip(rows, frame.to_dict("records"), strict=True):
        for name, value in expected.items():
            assert row[name] is None if is_null(value) else row[name] == pytest.approx(value)
            assert type(row[name]) in (int, float, str, type(None))
    assert (rows[-1]["block"], rows[-1]["mean_feve"], rows[-1]["n_valid"]) == (None, None, 0)


def test_the_conditions_that_tables_hold(run, tmp_path_factory):
    conditions = tabulated(run)
    assert [c.identity() for c in conditions] == [
        {name: row[name] for name in IDENTITY} for row in summary_rows(run)
    ]
    assert conditions[-1] == Condition(
        recording='a, "b"', model="cnn_fullmodel", input_size="64x128", tuning="full"
    )
    assert tabulated(tmp_path_factory.mktemp("nothing")) == []


def test_names_that_spreadsheets_run_come_back_unchanged(tmp_path):
    names = [
        "=HYPERLINK(A1)", "+1", "-2", "@SUM(A1)", "\t=1", "'=1", "''-1", "'quoted'", "'", "a=b",
        'a "=1", b',
    ]  # fmt: skip
    table = summary_of(neurons_table(recordings=names, blocks=(3,), tokens=("patch",)))
    table["mean_feve"] = -0.5
    (tmp_path / "results").mkdir()
    write_csv(tmp_path / SUMMARY, table)
    with (tmp_path / SUMMARY).open(newline="") as file:
        cells = [row["recording"] for row in csv.DictReader(file)]
    assert not [cell for cell in cells if cell[0] in "=+-@\t\r"]
    assert cells[-4:] == names[-4:] and cells[:2] == ["'=HYPERLINK(A1)", "'+1"]
    rows = summary_rows(tmp_path)
    assert [row["recording"] for row in rows] == names
    assert [condition.recording for condition in tabulated(tmp_path)] == names
    frame = read_summary(tmp_path)
    assert frame["recording"].tolist() == names and frame["recording"].dtype == "string"
    conditions = [Condition.from_row(row) for row in frame.to_dict("records")]
    assert conditions == [Condition.from_row(row) for row in rows] == tabulated(tmp_path)
    assert {row["mean_feve"] for row in rows} == {-0.5} == set(frame["mean_feve"])


def test_what_a_finished_run_reads_and_shows_loads_no_pandas(run):
    code = (
        "import sys; from pathlib import Path\n"
        "import pipeline.terminal, stages.failures\n"
        "assert not {'rich.progress', 'numpy', 'torch', 'zarr'} & set(sys.modules)\n"
        "from pipeline.report.key import report_key, run_key\n"
        "import pipeline.report.report\n"
        "from pipeline.results.names import varying\n"
        "from pipeline.results.tables import summary_rows, tabulated\n"
        "run = Path(sys.argv[1])\n"
        "rows = summary_rows(run)\n"
        "assert tabulated(run) and varying(rows, ['tuning', 'seed']) == ['tuning']\n"
        "pipeline.terminal.Terminal().table(rows, title='t')\n"
        "assert report_key(run / 'report.html') != run_key(run)\n"
        "print(*{'pandas', 'matplotlib', 'jinja2', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, run], check=True, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == ""
    assert "cnn_fullmodel" in done.stdout
