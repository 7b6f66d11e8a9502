"""Reduced tokens on a disk: the same as computed anew, and nothing is left behind."""

from __future__ import annotations

import os
import tempfile
from collections import namedtuple
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from stages.executors.resources import is_in_memory
from stages.readouts.als.pca import ReducedTokens, principal_components
from stages.readouts.settings import ALSSettings
from stages.tokens import tokens as data_module
from stages.tokens.random_access import RowsOnDisk, temporary_folder
from stages.tokens.tokens import ArrayTokens

CPU = torch.device("cpu")


class Counting(ArrayTokens):
    """Counts the trials that are read."""

    read_trials = 0

    def read(self, first, last):
        type(self).read_trials += last - first
        return super().read(first, last)


@pytest.fixture
def tokens(monkeypatch):
    monkeypatch.setattr(data_module, "PARTITION_ELEMENTS", 100)
    monkeypatch.setattr(Counting, "read_trials", 0)
    draw = torch.Generator().manual_seed(0)
    return Counting(torch.randn(50, 2, 3, 6, generator=draw).half())


@pytest.fixture
def components(tokens):
    settings = ALSSettings(variance_kept=1.0, max_components=4, basis_images=50, scale_limit=10)
    return principal_components(ArrayTokens(tokens.tensor), settings, device=CPU)


def values(reduced, *borders):
    parts = list(reduced.parts(*borders))
    return torch.cat([part for _, _, part in parts]), [part[:2] for part in parts]


def test_later_passes_read_the_disk_and_nothing_else(tokens, components, tmp_path):
    expected, borders = values(ReducedTokens(tokens, components, keep=False))
    assert len(borders) > 5 and tokens.read_trials == 50
    reduced = ReducedTokens(tokens, components, keep=False, spill=tmp_path)
    for _ in range(3):
        found, same_borders = values(reduced)
        assert torch.equal(found, expected) and same_borders == borders
        assert tokens.read_trials == 100
    assert torch.equal(values(reduced, 8, 24)[0], expected[8:24])
    assert not list(tmp_path.iterdir())


def test_what_a_pass_that_broke_off_did_not_write_is_read_anew(tokens, components, tmp_path):
    reduced = ReducedTokens(tokens, components, keep=False, spill=tmp_path)
    for number, _ in enumerate(reduced):
        if number == 2:
            break
    expected, _ = values(ReducedTokens(tokens, components, keep=False))
    for _ in range(2):
        assert torch.equal(values(reduced)[0], expected)


def test_where_the_disk_is_full_tokens_are_reduced_anew(tokens, components, tmp_path, monkeypatch):
    writes, closed = [], []
    write, close = RowsOnDisk.write, RowsOnDisk.close

    def full(self, first, part):
        writes.append(first)
        if len(writes) > 3:
            raise OSError(28, "No space left on device")
        write(self, first, part)

    monkeypatch.setattr(RowsOnDisk, "write", full)
    monkeypatch.setattr(RowsOnDisk, "close", lambda self: closed.append(close(self)))
    reduced = ReducedTokens(tokens, components, keep=False, spill=tmp_path)
    expected, _ = values(ReducedTokens(tokens, components, keep=False))
    for _ in range(2):
        assert torch.equal(values(reduced)[0], expected)
    assert len(writes) == 4 and len(closed) == 1


def test_the_file_ends_with_its_tokens(tmp_path):
    before = psutil.Process().num_fds() if hasattr(psutil.Process, "num_fds") else 0
    rows = RowsOnDisk((4, 1, 1, 2), np.dtype(np.float32), tmp_path)
    rows.write(0, np.ones((4, 1, 1, 2), np.float32))
    assert torch.equal(rows.read(1, 3), torch.ones(2, 1, 1, 2))
    del rows
    assert not list(tmp_path.iterdir())
    assert not before or psutil.Process().num_fds() == before


def test_a_folder_is_taken_where_a_disk_has_room(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr("stages.tokens.random_access.is_in_memory", lambda folder: False)
    assert temporary_folder(1) == tmp_path and temporary_folder(10**18) is None
    monkeypatch.setattr("stages.tokens.random_access.is_in_memory", lambda folder: True)
    assert temporary_folder(1) is None


def test_folders_in_memory_are_known(tmp_path, monkeypatch):
    mount = namedtuple("mount", "mountpoint fstype")
    mounts = [mount("/", "ext4"), mount(os.fspath(tmp_path.resolve()), "tmpfs")]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: mounts)
    assert is_in_memory(tmp_path / "below") and not is_in_memory(Path("/"))
