"""Two runs joined neuron by neuron."""

import json

import numpy as np
import pandas as pd
import pytest
from support.tables import neurons_table

from cache import UserError
from pipeline.cli.app import main
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
