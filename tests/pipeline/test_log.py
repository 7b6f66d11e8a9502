"""`run.log` of a run's folder."""

import logging
import re

import pytest

from cache import UserError
from pipeline.log import RUN_LOG, logged
from pipeline.terminal import Terminal
from stages.conditions import Condition
from stages.failures import FailedCondition, StepsFailed

CONDITION = Condition(recording="m", model="cnn_fullmodel", input_size="8x8")


def test_what_a_command_says_is_kept_with_times(tmp_path, capsys):
    screen = Terminal(quiet=True)
    screen.note("before")
    with logged(tmp_path, title="vitv1 run a.toml"):
        screen.note("a note\nvitv1: forged")
        screen.result("a result")
        screen.table([{"step": "fit", "work": "3 readouts"}], title="Plan", note=True)
        screen.detail("a detail")
        logging.getLogger("cache.stores").info("asked again")
        with screen.bar("fitting", total=2, unit="conditions") as done:
            done(2, "neurons 0 to 9 solved")
    screen.note("afterwards")
    said = (tmp_path / RUN_LOG).read_text()
    times = re.findall(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d{4} (.*)$", said, re.MULTILINE)
    assert times[:3] == ["--- vitv1 run a.toml", r"a note\nvitv1: forged", "a result"]
    assert re.search(r"step .* work\b", said) and "3 readouts" in said
    assert times[-3:-1] == ["asked again", "fitting: 2 conditions in 0 s"]
    assert times[-1] == "--- done"
    assert not [each for each in ("before", "detail", "afterwards", "solved") if each in said]
    captured = capsys.readouterr()
    assert captured.err == "" and captured.out == "a result\n"


def test_verbose_keeps_and_shows_what_solvers_do(tmp_path, capsys):
    screen = Terminal(verbose=True)
    with logged(tmp_path, title="t", verbose=True), screen.bar("f", total=1, unit="u") as done:
        done(0.5, "neurons 0 to 9 solved")
    assert "neurons 0 to 9 solved" in (tmp_path / RUN_LOG).read_text()
    assert "neurons 0 to 9 solved" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("no such file"), "--- no such file"),
        (ValueError("x"), "ValueError: x"),
        (KeyboardInterrupt(), "--- interrupted"),
        (
            StepsFailed([FailedCondition(condition=CONDITION, reason="out of memory")]),
            "m-cnn_fullmodel-8x8-frozen-seed0 failed: out of memory",
        ),
    ],
)
def test_how_it_ended(tmp_path, error, line):
    with pytest.raises(type(error)), logged(tmp_path, title="t"):
        raise error
    assert line in (tmp_path / RUN_LOG).read_text()


def test_each_command_adds_to_the_log(tmp_path):
    for number in range(2):
        with logged(tmp_path, title=f"command {number}"):
            pass
    said = (tmp_path / RUN_LOG).read_text()
    assert said.count("--- done") == 2 and said.index("command 0") < said.index("command 1")


def test_a_log_that_cannot_be_written_ends_nothing(tmp_path):
    (tmp_path / RUN_LOG).mkdir()
    with logged(tmp_path, title="t"):
        Terminal(quiet=True).note("goes on")
