"""Batches side by side: the same tokens, and nothing that goes on after a failure."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event

import pytest
import torch
from support.faults import content
from support.small_extraction import Extraction

from stages.backbones.backbone import Backbone


@pytest.fixture(scope="module")
def extraction():
    return Extraction()


@pytest.fixture
def two_threads(monkeypatch, extraction):
    """Two threads of torch, and two batches of two images in each shard."""
    monkeypatch.setattr("stages.extract.run.BATCH", 2)
    torch.set_num_threads(2)
    yield
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)


def test_two_batches_at_a_time_give_the_tokens_of_one(
    extraction, two_threads, monkeypatch, tmp_path
):
    together, threads, one_pass = Barrier(2), set(), Backbone.one_pass

    def watched(backbone, images):
        together.wait(timeout=60)
        threads.add(torch.get_num_threads())
        return one_pass(backbone, images)

    with monkeypatch.context() as patch:
        patch.setattr(Backbone, "one_pass", watched)
        extraction.run(tmp_path / "two.zarr")
    assert threads == {1}
    monkeypatch.setattr("stages.extract.run.MOST_BATCHES", 1)
    extraction.run(tmp_path / "one.zarr")
    assert content(tmp_path / "two.zarr") == content(tmp_path / "one.zarr")


def test_after_a_failure_no_batch_is_begun(extraction, two_threads, monkeypatch, tmp_path):
    begun, over = [], Event()

    class Pool(ThreadPoolExecutor):
        def shutdown(self, wait=True, *, cancel_futures=False):
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            over.set()
            super().shutdown(wait=wait)

    def failing(backbone, images, tokens, first, ids):
        begun.append(first)
        assert first == 0 or over.wait(timeout=60)
        raise MemoryError("no room for a batch")

    monkeypatch.setattr("support.small_extraction.PER_SHARD", 32)
    with monkeypatch.context() as patch:
        patch.setattr("stages.extract.run._compute", failing)
        patch.setattr("stages.extract.run.ThreadPoolExecutor", Pool)
        with pytest.raises(MemoryError, match="no room"):
            extraction.run(tmp_path / "c.zarr")
    # Of 16, those that three threads had taken up, one of them twice.
    assert 1 <= len(begun) <= 4
    assert extraction.run(tmp_path / "c.zarr") == 32
