"""Two runs joined neuron by neuron."""

import json

import numpy as np
import pandas as pd
import pytest
from support.tables import neurons_table

from cache import UserError
from pipeline.cli.main import main
from pipeline.report.compare import compare_runs
from pipeline.results.tables import NEURONS
from pipeline.terminal import Terminal

QUIET = Terminal(quiet=True)


def a_run(folder, neurons):
    path = folder / NEURONS
    path.parent.mkdir(parents=True)
    neurons.to_parquet(path)
    return folder


def test_runs_of_two_solvers_are_joined_block_by_block(tmp_path):
    table = neurons_table(tokens=("patch",))
    better = table.assign(solver="als", feve=table["feve"] + 0.05)
    one, other = a_run(tmp_path / "a", table), a_run(tmp_path / "b", better)
    result = compare_runs(one, other, tmp_path / "out", QUIET)
    assert result["block"].tolist() == [3, 4, 5]
    np.testing.assert_allclose(result["difference"], 0.05, atol=1e-9)
    assert "solver" not in result.columns
    assert (tmp_path / "out/scatter.png").exists() and (tmp_path / "out/scatter.svg").exists()
    saved = pd.read_csv(tmp_path / "out/differences.csv")
    np.testing.assert_allclose(saved["difference"], result["difference"])


def test_only_conditions_in_both_are_compared(tmp_path):
    one = a_run(tmp_path / "a", neurons_table(blocks=(2, 3)))
    other = a_run(tmp_path / "b", neurons_table(blocks=(3, 4)))
    assert compare_runs(one, other, tmp_path / "out", QUIET)["block"].tolist() == [3, 3]


def test_different_recordings_are_never_pooled(tmp_path):
    one = a_run(tmp_path / "a", neurons_table(recordings=("FX8",)))
    other = a_run(tmp_path / "b", neurons_table(recordings=("FX9",)))
    with pytest.raises(UserError, match="never pooled"):
        compare_runs(one, other, tmp_path / "out", QUIET)
    assert not (tmp_path / "out").exists()


def test_a_recording_in_one_run_alone_is_left_out_and_said(tmp_path, capsys):
    one = a_run(tmp_path / "a", neurons_table(recordings=("FX8", "FX9")))
    other = a_run(tmp_path / "b", neurons_table(recordings=("FX9",)))
    result = compare_runs(one, other, tmp_path / "out", Terminal())
    assert set(result["recording"]) == {"FX9"}
    assert "FX8" in capsys.readouterr().err


def test_neurons_of_one_run_alone_do_not_count(tmp_path):
    one = a_run(tmp_path / "a", neurons_table(n_neurons=40))
    other = a_run(tmp_path / "b", neurons_table(n_neurons=10))
    assert compare_runs(one, other, tmp_path / "out", QUIET)["n_neurons"].max() <= 10


def test_means_are_those_of_the_neurons_that_the_difference_is_of(tmp_path):
    table = neurons_table(tokens=("patch",), n_neurons=40).assign(fev=0.5)
    fewer = table.assign(fev=table["fev"].where(table["feve"] < table["feve"].median(), 0.1))
    one, other = a_run(tmp_path / "a", table), a_run(tmp_path / "b", fewer)
    for row in compare_runs(one, other, tmp_path / "out", QUIET).to_dict("records"):
        assert row["difference"] == 0 and row["mean_feve_first"] == row["mean_feve_second"]


def test_two_mice_are_compared_as_distributions_when_asked_by_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    table = neurons_table(recordings=("FX8", "_9"), n_neurons=200)
    table.loc[table["recording"] == "_9", "feve"] += 0.2
    a_run(tmp_path / "a", table)
    result = compare_runs(
        tmp_path / "a", tmp_path / "a", tmp_path / "out", QUIET, recordings=("FX8", "_9")
    )
    assert len(result) == 6 and "recording" not in result
    for row in result.to_dict("records"):
        assert row["low"] < row["difference"] < row["high"]
        assert row["difference"] == pytest.approx(0.2, abs=0.03)
        assert row["difference"] == row["mean_feve_second"] - row["mean_feve_first"]
        assert row["n_first"] > 180 and row["n_second"] > 180
    drawn = (tmp_path / "out/distributions.svg").read_text()
    assert "FX8" in drawn and "_9" in drawn and (tmp_path / "out/distributions.png").exists()
    assert not (tmp_path / "out/scatter.png").exists()
    assert main(["compare", "a", "a", "--recordings", "FX8", "_9"]) == 0
    assert "distributions.png" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("names", "words"),
    [(("FX8", "FX7"), "has no recording 'FX7', but FX8"), (("FX8",) * 2, "both")],
)
def test_recordings_that_cannot_be_compared_are_refused(tmp_path, names, words):
    run = a_run(tmp_path / "a", neurons_table(recordings=("FX8",)))
    with pytest.raises(UserError, match=words):
        compare_runs(run, run, tmp_path / "out", QUIET, recordings=names)
    assert not (tmp_path / "out").exists()


def test_ambiguous_conditions_are_refused(tmp_path):
    one = a_run(tmp_path / "a", neurons_table(seeds=(0, 1)))
    other = a_run(tmp_path / "b", neurons_table(seeds=(2,)))
    with pytest.raises(UserError, match="differ in seed"):
        compare_runs(one, other, tmp_path / "out", QUIET)


def test_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    a_run(tmp_path / "a", neurons_table())
    a_run(tmp_path / "b", neurons_table(seed=1))
    assert main(["compare", "a", "b"]) == 0
    assert "difference" in capsys.readouterr().out
    assert (tmp_path / "runs/compare-a-b/scatter.png").exists()
    assert main(["compare", "a", "b", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert len(said["conditions"]) == 6 and said["conditions"][0]["difference"] is not None
    assert main(["compare", "a", "absent"]) == 2
    assert "name the output folder of a finished run" in capsys.readouterr().err
