"""Unfinished caches: what was changed before a resume, or under a writer, is written again."""

import shutil

import pytest
from support.faults import (
    IDS,
    SHAPE,
    content,
    make_store,
    open_writer,
    settings,
    shard_tokens,
    write_all,
)
from support.unfinished_faults import FAULTS, ONE, OTHER, flip, planned, swap

from cache import CacheError, open_cache, prepare_repair, verify
from cache.format.metadata import ROOT, SHARD_SUMS, parse, root_bytes


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr("cache.write.atomic._sync", lambda path: None)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("whole") / "c.zarr")


@pytest.fixture
def store(tmp_path):
    return make_store(tmp_path / "c.zarr", stop_after=2)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("repaired", [False, True])
def test_what_changed_before_a_resume_is_written_again(store, whole, fault, repaired):
    damage, again = FAULTS[fault]
    damage(store)
    if repaired:
        # With something else to mend, so that the repair records what is there.
        (store / "blocks/zarr.json").unlink()
        prepare_repair(store, settings=settings(), provenance={}, image_ids=IDS, shape=SHAPE)
    with open_writer(store) as writer:
        assert writer.missing_shards() == again
        write_all(writer)
    if not repaired:
        assert content(store) == content(whole)
    assert not verify(store).faults and SHARD_SUMS not in open_cache(store).store.attributes


def test_a_repaired_store_keeps_the_record_of_what_is_sound(tmp_path, whole):
    store = shutil.copytree(whole, tmp_path / "c.zarr")
    (store / "blocks/01/cls/c/2/0").unlink()
    prepare_repair(store, settings=settings(), provenance={}, image_ids=IDS, shape=SHAPE)
    swap(store / ONE, store / OTHER)
    with open_writer(store) as writer:
        assert writer.missing_shards() == [0, 1, 2]


@pytest.mark.parametrize("fault", ["swapped shards", "foreign shard with right checksums"])
def test_what_changes_under_the_writer_is_never_declared_complete(store, whole, fault):
    damage, _ = FAULTS[fault]
    with open_writer(store) as writer:
        writer.write_shard(2, shard_tokens(writer.shard_ids(2)))
        damage(store)
        with pytest.raises(CacheError, match=r"shards \[0.*were changed after they had been"):
            writer.finish()
    make_store(store)
    assert content(store) == content(whole)


def test_other_image_ids_are_refused_and_mended(store, whole):
    forged = planned()[0].encode(0, IDS + 1)
    (store / "image/c/0").write_bytes(forged)
    with pytest.raises(CacheError, match="image/c/0 holds other image ids than the experiment"):
        make_store(store)
    prepare_repair(store, settings=settings(), provenance={}, image_ids=IDS, shape=SHAPE)
    make_store(store)
    assert (store / "image/c/0").read_bytes() == (whole / "image/c/0").read_bytes()
    assert not verify(store).faults


def test_a_store_that_an_earlier_version_began_is_taken_up(store, whole):
    """It has no record: intact shards count, others do not."""
    attributes = parse((store / ROOT).read_bytes(), where="")["attributes"]
    del attributes[SHARD_SUMS]
    (store / ROOT).write_bytes(root_bytes(attributes))
    flip(store / OTHER)
    with open_writer(store) as writer:
        assert writer.missing_shards() == [1, 2]
        write_all(writer)
    assert content(store) == content(whole)
