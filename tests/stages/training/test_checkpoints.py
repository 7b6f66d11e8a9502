"""Checkpoints that are refused."""

import pytest
import torch
from support.line import Line, descend, phase, settings

from cache import UserError
from stages.training.checkpoints import Checkpoint


def test_a_checkpoint_of_other_settings_or_a_torn_one_is_refused(tmp_path):
    path = tmp_path / "abc.pt"
    line = Line()
    descend(line, [phase(line, 1)], settings(), checkpoint=Checkpoint(path, "abc"))
    with pytest.raises(UserError, match="other settings"):
        Checkpoint(path, "abd").load()
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="delete it"):
        Checkpoint(path, "abc").load()


def test_a_checkpoint_of_an_earlier_version_is_refused(tmp_path):
    checkpoint = Checkpoint(tmp_path / "abc.pt", "abc")
    torch.save({"key": "abc", "state": {"curve": []}}, checkpoint.path)
    with pytest.raises(UserError, match=r"another version .* delete it"):
        checkpoint.load()
