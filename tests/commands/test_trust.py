"""Attacks of `make bench BENCH=trust` in small numbers: none succeeds."""

import pytest
from benchmarks.trust.__main__ import ROWS, counts
from benchmarks.trust.hostile_inputs import hostile_trials
from benchmarks.trust.kills import COMMANDS, kill_trials
from benchmarks.trust.plan_cost import checking_cost

from pipeline.experiment import load_experiment


@pytest.mark.parametrize(("row", "size"), [("results", 8), ("unfinished", 24), ("checkpoints", 16)])
def test_faults_are_never_silent(row, size, tmp_path):
    met, _, told, _ = counts(row, str(size), tmp_path, 0)
    assert met and f"{size} faults" in told, told


def test_kills_lose_nothing_and_change_nothing(tmp_path):
    found = kill_trials(tmp_path, 3, commands=["fit"])
    assert found["kills"] == found["aimed"] == 3
    assert not any(found[bad] for bad in ROWS["kills"].bad), found


def test_every_command_is_killed():
    assert {name.split()[0] for name in COMMANDS} >= {"run", "extract", "fit", "finetune"}
    assert {"baseline", "report", "cache pull", "cache pack", "cache repair"} <= set(COMMANDS)


def test_hostile_inputs_do_no_harm(tmp_path):
    found = hostile_trials(tmp_path, 5, quick=True)
    assert found["commands"] == 5 and not any(found[bad] for bad in ROWS["hostile"].bad), found


def test_the_cost_of_checking_is_measured(tuned_run, tmp_path):
    seconds, n_bytes = checking_cost(load_experiment(tuned_run).output, tmp_path, tuned_run)
    assert abs(seconds) < 60 and n_bytes > 10_000


def test_a_row_that_misses_its_target_is_told(tmp_path, monkeypatch):
    from benchmarks.trust import unfinished_caches

    monkeypatch.setattr(unfinished_caches, "content", lambda store: {"a": str(store)})
    met, _, told, target = counts("unfinished", "3", tmp_path, 0)
    assert not met and " silent" in told and target == "0 silent"
