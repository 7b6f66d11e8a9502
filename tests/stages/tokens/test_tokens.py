"""Memory of tokens: wherever they come from, they lie as torch's own tensors do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cache import TokenShape, open_cache, plan_layout, write_cache
from stages.finetune.inputs import BlockTokens
from stages.tokens.cached import CachedTokens
from stages.tokens.prefetch import Arrival
from stages.tokens.random_access import RowsInMemory, RowsOnDisk, hold
from stages.tokens.tokens import ALIGNMENT, ArrayTokens, settled

#: Rows of 3 x 5 x 7 numbers begin anywhere.
N, SHAPE = 50, TokenShape(n_blocks=1, grid=(3, 5), n_channels=7, n_registers=2, dtype="float32")


def lies_well(values: torch.Tensor) -> bool:
    return values.is_contiguous() and values.data_ptr() % ALIGNMENT == 0


@pytest.fixture(scope="module")
def block(tmp_path_factory):
    path = tmp_path_factory.mktemp("odd") / "odd.zarr"
    draw = np.random.default_rng(0)
    with write_cache(
        path,
        settings={"backbone": {"n_blocks": 1}},
        provenance={},
        image_ids=np.arange(N),
        shape=SHAPE,
        layout=plan_layout(SHAPE, n_images=N, chunk_bytes=2**10, shard_bytes=2**15),
    ) as writer:
        for shard in writer.missing_shards():
            n = len(writer.shard_ids(shard))
            kinds = ("patches", "cls", "registers")
            tokens = {k: draw.standard_normal((n, *SHAPE.item(k)), np.float32) for k in kinds}
            writer.write_shard(shard, [tokens])
        writer.finish()
    return open_cache(path).block(0)


@given(st.integers(0, N - 1), st.integers(1, N))
def test_consecutive_trials_lie_well_and_are_the_same(block, first, count):
    last = min(N, first + count)
    stored = CachedTokens([block], "patches", np.arange(N))
    arrived = Arrival(stored).part(0, N)
    array = ArrayTokens(stored.read(0, N).clone())
    wanted = stored.read(first, last)
    for source in (stored, arrived, array):
        part = source.read(first, last)
        assert lies_well(part) and torch.equal(part, wanted)


@pytest.mark.parametrize("kinds", ["patches", "all"])
def test_trials_in_any_order_lie_well_and_are_the_same(block, kinds, tmp_path, monkeypatch):
    ids = np.arange(N)
    source = (
        BlockTokens(block, ids, block.cache.kinds)
        if kinds == "all"
        else CachedTokens([block], "patches", ids)
    )
    held = [hold(source, in_memory=True), hold(source, in_memory=False)]
    monkeypatch.setattr("stages.tokens.random_access.temporary_folder", lambda size: None)
    held.append(hold(source, in_memory=False))
    assert [type(rows) for rows in held] == [RowsInMemory, RowsOnDisk, type(source)]
    for rows in (np.array([7]), np.random.default_rng(0).permutation(N)[:13]):
        taken = [each.take(rows) for each in held]
        assert all(lies_well(each) and torch.equal(each, taken[0]) for each in taken)


def test_what_lies_well_is_not_copied():
    values = torch.zeros(4, 16)
    assert settled(values) is values
    assert settled(values[1:]).data_ptr() == values[1:].data_ptr()
    assert all(lies_well(settled(each)) for each in (values.T, values[:, 1:], values[0, 1:]))
