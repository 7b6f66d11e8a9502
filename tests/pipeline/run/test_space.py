"""Plans that a disk has no room for."""

import shutil
from collections import namedtuple

import pytest
from support.tiny import write_experiment

from pipeline.cli.app import main

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
