"""Plans that a disk has no room for."""

import os
import shutil
from collections import namedtuple

import pytest
from support.tiny import write_experiment

from pipeline.cli.main import main

Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize("command", ["run", "extract"])
def test_a_cache_that_has_no_room_is_refused_before_anything_is_done(
    tmp_path, monkeypatch, capsys, command
):
    path = write_experiment(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**6, 0, 10**4))
    assert main([command, str(path)]) == 2
    said = capsys.readouterr().err
    assert "GB free: make room, or name another [cache] path, or fewer images" in said
    assert not (tmp_path / "runs").exists()


def test_two_caches_share_the_room_of_their_disk(tmp_path, monkeypatch, capsys):
    path = write_experiment(tmp_path)
    sweep = ["--set", "stimuli.upsample=[1, 2]"]
    needed = []
    monkeypatch.setattr(
        "pipeline.run.extract.require_space", lambda size, _place, instead: needed.append(size)
    )
    assert main(["extract", str(path), "--quiet", *sweep]) == 0
    assert len(needed) == 2 and needed[1] > 3 * needed[0] > 0


@pytest.mark.parametrize("output", ["/proc/x", "mouse.toml"])
def test_an_output_that_can_be_no_folder_is_refused(tmp_path, capsys, output):
    path = write_experiment(tmp_path)
    output = tmp_path / output
    assert main(["run", str(path), "--set", f"run.output={output}"]) == 2
    said = capsys.readouterr().err
    assert f"{output}" in said and "name another run.output" in said and said.count("\n") == 1


def test_a_read_only_output_is_refused_where_there_is_something_to_do(
    tmp_path, monkeypatch, capsys
):
    path = write_experiment(tmp_path)
    (tmp_path / "runs").mkdir()
    access = os.access
    monkeypatch.setattr(
        "os.access", lambda place, mode: tmp_path / "runs" != place and access(place, mode)
    )
    assert main(["run", str(path), "--quiet"]) == 2
    assert "cannot be written to" in capsys.readouterr().err
    assert [p.name for p in (tmp_path / "runs").iterdir()] in ([], [".lock"])
