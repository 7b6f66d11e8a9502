"""Experiment files of strangers: bounded in memory and time, and refused in one line."""

import pytest
from support.tiny import write_experiment

from cache import UserError
from pipeline.cli.main import main
from pipeline.experiment import load_experiment


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x" * (2**20 + 1), "more than 1 MiB"),
        ("a." * 300 + "a = 1", "more than 256 dots"),
        ("a = " + "[" * 100_000, "is not valid TOML"),
        ("a = " + "9" * 5_000, "is not valid TOML"),
        (b"\xff", "is not valid TOML"),
    ],
)
def test_bounds(tmp_path, capsys, text, told):
    path = tmp_path / "a.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert main(["run", "--dry-run", str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line and len(line) < 400


def test_no_file(tmp_path):
    for path in (tmp_path, tmp_path / "absent.toml"):
        with pytest.raises(UserError, match="no such experiment file"):
            load_experiment(path)


def test_sweeps_and_conditions_are_bounded(tmp_path, monkeypatch):
    path = write_experiment(tmp_path)
    many = f"run.seed={list(range(100))}"
    with pytest.raises(
        UserError, match=r"stimuli\.upsample and run\.seed multiply to more than 1000"
    ):
        load_experiment(path, [many, f"stimuli.upsample={list(range(1, 12))}"])
    monkeypatch.setattr("pipeline.plan.make.MOST_CONDITIONS", 100)
    assert main(["run", "--dry-run", str(path), "--quiet", "--set", many]) == 2


@pytest.mark.parametrize("key", ["run.output", "cache.local_copy"])
def test_a_place_to_write_to_is_no_url(tmp_path, key):
    with pytest.raises(UserError, match=f"{key} .*not a URL"):
        load_experiment(write_experiment(tmp_path), [f"{key}=https://lab.example/a"])
