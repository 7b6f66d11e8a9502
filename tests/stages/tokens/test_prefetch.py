"""Tokens that arrive while what is there is computed on."""

import threading

import numpy as np
import pytest
import torch
from support.clusters import noise_task

from cache import CacheError
from stages.fit.inputs import cached_tokens, trials_of
from stages.tokens import cached as cached_tokens_module
from stages.tokens.cached import CachedTokens
from stages.tokens.prefetch import Arrival
from stages.tokens.tokens import partitions, read_ahead


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return noise_task(tmp_path_factory.mktemp("noise"), n_images=600, n_neurons=3)


@pytest.fixture
def tokens(task, monkeypatch):
    monkeypatch.setattr(cached_tokens_module, "PARTITION_ELEMENTS", 2**13)  # several reads
    return cached_tokens(task, trials_of(task))[0]


def test_everything_arrives_in_its_place(tokens):
    shuffled = np.random.default_rng(0).permutation(600)
    mixed = CachedTokens(tokens.blocks, tokens.kind, np.r_[shuffled, shuffled[:50]])
    arrival = Arrival(mixed)
    part = arrival.part(100, 640)
    assert part.shape == (540, *mixed.shape[1:])
    assert torch.equal(part.read(0, 540), mixed.read(100, 640))
    assert torch.equal(part.read(530, 540), mixed.read(630, 640))


def test_the_first_trials_are_used_before_the_last_are_there(tokens, monkeypatch):
    reads, more = [], threading.Event()
    take = CachedTokens.take

    def slow(self, trials):
        if reads:
            more.wait(10)
        reads.append(trials)
        return take(self, trials)

    monkeypatch.setattr(CachedTokens, "take", slow)
    arrival = Arrival(tokens)
    first = arrival.part(0, 600).read(0, 10)
    assert len(reads) == 1 and torch.equal(first, take(tokens, slice(0, 10)))
    more.set()
    assert len(arrival.part(0, 600).read(0, 600)) == 600 and len(reads) > 2


def test_a_read_that_fails_fails_where_it_is_needed(tokens, monkeypatch):
    def broken(self, trials):
        raise CacheError("damaged")

    monkeypatch.setattr(CachedTokens, "take", broken)
    with pytest.raises(CacheError, match="damaged"):
        Arrival(tokens).part(0, 600).read(0, 1)


def test_the_next_part_is_read_meanwhile(tokens, monkeypatch):
    began = threading.Semaphore(0)
    take = CachedTokens.take
    monkeypatch.setattr(
        CachedTokens, "take", lambda self, trials: began.release() or take(self, trials)
    )
    ahead = read_ahead(tokens, partitions((600, 2, 4, 2**18)))
    first, last, part = next(ahead)
    assert torch.equal(part, take(tokens, slice(first, last)))
    # Nobody has asked for the second one yet.
    assert began.acquire(timeout=10) and began.acquire(timeout=10)
    parts = [part, *(each for _, _, each in ahead)]
    assert torch.equal(torch.cat(parts), take(tokens, slice(0, 600)))
