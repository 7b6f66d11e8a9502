"""Rows of tokens taken in any order: the same from memory, from a file, and from the cache."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.clusters import noise_task

from stages.fit.inputs import cached_tokens, trials_of
from stages.fit.run import fit_condition
from stages.readouts.settings import AdamWSettings, ReadoutSettings
from stages.tokens import cached as cached_tokens_module
from stages.tokens import random_access as held_rows
from stages.tokens.cached import CachedTokens
from stages.tokens.random_access import RowsInMemory, RowsOnDisk, hold

DTYPE = np.dtype(np.float16)


@given(st.permutations(range(12)), st.lists(st.integers(0, 11), min_size=1), st.data())
def test_what_was_put_is_taken_in_any_order(order, wanted, data):
    values = np.random.default_rng(0).standard_normal((12, 2, 3)).astype(DTYPE)
    middle = data.draw(st.integers(0, 12))
    with tempfile.TemporaryDirectory() as folder:
        for rows in (
            RowsInMemory(torch.zeros(12, 2, 3, dtype=torch.float16)),
            RowsOnDisk((12, 2, 3), DTYPE, Path(folder)),
        ):
            for part in (np.array(order[:middle], int), np.array(order[middle:], int)):
                rows.put(part, values[part])
            np.testing.assert_array_equal(rows.take(np.array(wanted)).numpy(), values[wanted])


def test_long_rows_are_read_piece_by_piece(tmp_path, monkeypatch):
    monkeypatch.setattr(held_rows, "AT_ONCE", 10)
    rows = RowsOnDisk((4, 7), DTYPE, tmp_path)
    rows.write(0, np.arange(28, dtype=DTYPE).reshape(4, 7))
    np.testing.assert_array_equal(
        rows.take(np.arange(1, 3)).numpy(), np.arange(7, 21).reshape(2, 7)
    )
    with pytest.raises(OSError, match="cut short"):
        rows.take(np.arange(3, 5))
    assert not list(tmp_path.iterdir()), "the file has no name"


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    folder = tmp_path_factory.mktemp("noise")
    task = noise_task(folder, n_images=600, n_neurons=3)
    settings = ReadoutSettings(solver="adamw", adamw=AdamWSettings(max_epochs=3))
    condition = dataclasses.replace(task.condition, solver="adamw")
    return dataclasses.replace(task, condition=condition, settings=settings)


@pytest.fixture
def mixed(task, monkeypatch):
    """Trials in another order than the cache's, read in several steps."""
    monkeypatch.setattr(cached_tokens_module, "PARTITION_ELEMENTS", 2**13)
    tokens, _ = cached_tokens(task, trials_of(task))
    order = np.random.default_rng(0).permutation(600)
    mixed = CachedTokens(tokens.blocks, tokens.kind, order)
    assert len(mixed.steps()) > 2
    return mixed


def full(self, first, values):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("where", ["memory", "disk", "full disk", "no disk"])
def test_held_rows_are_those_of_the_cache(mixed, where, monkeypatch):
    if where == "full disk":
        monkeypatch.setattr(RowsOnDisk, "write", full)
    if where == "no disk":
        monkeypatch.setattr(held_rows, "temporary_folder", lambda size: None)
    rows = hold(mixed, in_memory=where == "memory")
    expected = {"memory": RowsInMemory, "disk": RowsOnDisk}.get(where, CachedTokens)
    assert isinstance(rows, expected)
    wanted = np.r_[np.arange(40, 60), [7, 3, 3], 599]
    assert torch.equal(rows.take(wanted), mixed.take(wanted))


def test_descent_gives_the_same_from_memory_and_from_a_file(task, monkeypatch):
    """Bit for bit: where the tokens are is no setting of the fit."""
    one = fit_condition(task)
    held = []
    monkeypatch.setattr(
        "stages.tokens.random_access.hold",
        lambda source, *, in_memory: held.append(hold(source, in_memory=in_memory)) or held[-1],
    )
    other = fit_condition(dataclasses.replace(task, memory_limit=10**4))
    assert [type(rows) for rows in held] == [RowsOnDisk] * 2
    np.testing.assert_array_equal(one.readouts.channel_weights, other.readouts.channel_weights)
    np.testing.assert_array_equal(one.test_predictions, other.test_predictions)
