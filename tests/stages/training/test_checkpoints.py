"""Checkpoints that are refused, and damaged ones, which are put aside."""

import numpy as np
import pytest
import torch
from support.disk import Disk
from support.line import Line, descend, phase, settings, weights

from cache import UserError
from stages.training.checkpoints import Checkpoint


def trained(epochs, checkpoint, **loop):
    """A line after so many epochs, with dropout: every epoch's order and masks count."""
    line = Line(dropout=0.3)
    descend(line, [phase(line, epochs)], settings(patience=99, **loop), checkpoint=checkpoint)
    return weights(line)


def test_a_checkpoint_of_other_settings_is_refused(tmp_path):
    trained(1, Checkpoint(tmp_path / "abc.pt", "abc"))
    with pytest.raises(UserError, match="other settings"):
        Checkpoint(tmp_path / "abc.pt", "abd").load()


def test_a_power_cut_leaves_a_checkpoint(tmp_path, monkeypatch):
    disk, checkpoint = Disk(monkeypatch), Checkpoint(tmp_path / "run" / "abc.pt", "abc")
    for epoch in range(2):
        checkpoint.save({"epoch": epoch})
    assert checkpoint.load() == {"epoch": 1}
    for path in (tmp_path / "run").iterdir():
        assert disk.lacks(path, below=tmp_path) is None


@pytest.mark.parametrize("number", [{}, {"format": 1}, {"format": 4}])
def test_a_checkpoint_of_another_version_is_refused(tmp_path, number):
    checkpoint = Checkpoint(tmp_path / "abc.pt", "abc")
    checkpoint.save({})
    torch.save({"key": "abc", "state": {"curve": []}, **number}, checkpoint.path)
    if number == {"format": 4}:
        with pytest.warns(UserWarning, match="checksum is gone"):
            assert checkpoint.load() is None
        return
    with pytest.raises(UserError, match=r"another version .* delete it"):
        checkpoint.load()


def test_a_checkpoint_that_has_no_checksum_yet_is_taken_up(tmp_path):
    checkpoint = Checkpoint(tmp_path / "abc.pt", "abc")
    torch.save({"key": "abc", "format": 2, "state": {"curve": []}}, checkpoint.path)
    assert checkpoint.load() == {"curve": []}


def damaged(content, rng):
    kind = rng.integers(4)
    place = int(rng.integers(len(content)))
    if kind == 0:
        return content[:place]
    if kind == 1:
        return content[:place] + bytes(min(40, len(content) - place)) + content[place + 40 :]
    if kind == 2:
        return content + bytes(rng.integers(1, 40))
    flipped = bytearray(content)
    flipped[place] ^= 1 << rng.integers(8)
    return bytes(flipped)


def test_no_damage_leads_to_another_result(tmp_path):
    """Some random faults: training goes on from the epoch before, or the start."""
    checkpoint, rng = Checkpoint(tmp_path / "abc.pt", "abc"), np.random.default_rng(0)
    expected = trained(4, None)
    trained(2, checkpoint)
    files = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert {path.name for path in files} == {"abc.pt", "abc.pt.before"}
    for number in range(8):
        for path, content in files.items():
            path.write_bytes(content)
        intact = files[checkpoint.path]
        while (content := damaged(intact, rng)) == intact:
            pass
        checkpoint.path.write_bytes(content)
        if number == 0:
            checkpoint.path.with_name("abc.pt.before").unlink()
        with pytest.warns(UserWarning, match=r"abc\.pt is damaged .* lies in abc\.pt\.damaged"):
            ended = trained(4, checkpoint)
        assert all(torch.equal(a, b) for a, b in zip(ended, expected, strict=True))
        assert (tmp_path / "abc.pt.damaged").read_bytes() == content
    checkpoint.remove()
    assert not any(tmp_path.iterdir())
