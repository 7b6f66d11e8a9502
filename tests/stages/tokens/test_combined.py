"""Tokens of a combination: read as those of one cache are, however they are asked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.two_caches import COARSE, FINE, combined_task

from cache import CacheError, open_cache
from stages.tokens import cached as cached_module
from stages.tokens.balance import channel_scale
from stages.tokens.combination import Combination
from stages.tokens.combined import open_combined
from stages.tokens.prefetch import Arrival
from stages.tokens.random_access import in_any_order
from stages.tokens.resampling import resampled
from stages.tokens.tokens import ArrayTokens

IDS = np.random.default_rng(0).permutation(150)[:130]


@pytest.fixture(scope="module")
def combination(tmp_path_factory):
    return combined_task(tmp_path_factory.mktemp("two"), n_images=150).combined


@pytest.fixture
def tokens(combination, monkeypatch):
    monkeypatch.setattr(cached_module, "PARTITION_ELEMENTS", 2**12)  # several reads
    return open_combined(combination, IDS, images=np.arange(150))


def test_channels_stand_side_by_side_on_the_finest_grid(tokens, combination):
    coarse, fine = (
        torch.from_numpy(open_cache(each.path).block(0).read("patches", IDS))
        for each in combination.sources
    )
    assert tokens.shape == (130, 4, 6, 8) and tokens.dtype == np.float16
    assert tokens.stored_bytes == 2 * 130 * 4 * 6 * 8
    wanted = torch.cat([resampled(coarse, COARSE, FINE, how="bilinear"), fine], dim=-1)
    assert torch.equal(tokens.read(0, 130), wanted)


def test_every_way_of_reading_gives_the_same(tokens):
    whole = tokens.read(0, 130)
    steps = tokens.steps()
    assert len(steps) > 3 and sorted(np.concatenate(steps)) == list(range(130))
    arrived = Arrival(tokens)
    assert torch.equal(arrived.part(20, 90).read(0, 70), whole[20:90])
    assert torch.equal(tokens.part(20, 90).read(3, 8), whole[23:28])
    order = np.random.default_rng(1).permutation(130)
    assert torch.equal(in_any_order(tokens).take(order), whole[order])


def test_a_document_says_all_but_the_place(combination):
    again = Combination.from_document(combination.document())
    where = [replace(each, path=None) for each in combination.sources]
    assert again == replace(combination, sources=tuple(where))
    assert combination.name == "coarse:0 + fine:0 (bilinear)"
    assert replace(combination, resample="nearest").name == "coarse:0 + fine:0"


def test_another_cache_than_the_planned_one_is_refused(combination):
    one, other = combination.sources
    wrong = replace(combination, sources=(one, replace(other, key="0" * 64)))
    with pytest.raises(CacheError, match="holds other tokens than before"):
        open_combined(wrong, IDS, images=IDS)


def test_balanced_sources_have_the_same_variance_in_total():
    draw = np.random.default_rng(0)
    x = draw.standard_normal((400, 2, 3, 6)) * np.array([10, 10, 20, 0.1, 0.1, 0.1])
    x += draw.standard_normal((2, 3, 6)) * 50  # the bias's
    scale = channel_scale(ArrayTokens(torch.from_numpy(x)), (3, 2, 1))
    variance = (x / scale.numpy()).var(axis=0).mean(axis=(0, 1))
    totals = [part.sum() for part in np.split(variance, [3, 5])]
    np.testing.assert_allclose(totals, np.mean([600, 0.02, 0.01]), rtol=0.2)
    np.testing.assert_allclose(totals, totals[0], rtol=1e-4)
    assert channel_scale(ArrayTokens(torch.from_numpy(x)), ()) is None
