"""Repair of caches that serve several recordings: by whoever has the images of what is damaged."""

import numpy as np
import pytest
from support.faults import SHAPE
from support.growth import BOTH, FIRST, assert_holds, extract, hashes_of, recipe

from cache import CacheError, open_cache, prepare_repair, verify


@pytest.fixture
def store(tmp_path):
    """Images of two recordings, those of the first in the rows of the first shard."""
    path = tmp_path / "c.zarr"
    extract(path, FIRST)
    extract(path, BOTH)
    return path


def repair(path, ids, **changed):
    given = {"image_ids": ids, "image_sha256": hashes_of(ids), **changed}
    made = {"settings": recipe(), "provenance": {"made": "again"}, "shape": SHAPE}
    return prepare_repair(path, **made, **given)


def test_images_of_others_stay(store):
    (store / "blocks/01/cls/c/0/0").write_bytes(b"")
    assert repair(store, FIRST).shards == (0,)
    assert set(extract(store, FIRST)) == set(FIRST[:8])
    assert_holds(store, BOTH)


def test_who_lacks_the_images_is_refused_before_anything_is_done(store):
    (store / "blocks/01/cls/c/1/0").write_bytes(b"")
    before = {p: p.stat().st_mtime_ns for p in store.rglob("*")}
    with pytest.raises(CacheError, match="5 images that it lacks are none of this"):
        repair(store, FIRST)
    assert {p: p.stat().st_mtime_ns for p in store.rglob("*")} == before


@pytest.mark.parametrize(
    "lost", ["zarr.json", "image/c/0", "image_sha256/c/0/0", "image_sha256/zarr.json"]
)
def test_lost_metadata_is_rebuilt_or_refused(store, lost):
    ids = open_cache(store).image_ids
    (store / lost).unlink()
    if lost.endswith("/0") or "sha256" in lost:
        with pytest.raises(CacheError, match="of its 21 images are damaged"):
            repair(store, np.sort(BOTH))
        return
    repair(store, BOTH)
    extract(store, BOTH)
    assert not verify(store).faults
    np.testing.assert_array_equal(open_cache(store).image_ids, ids)


def test_a_cache_that_never_grew_gets_its_ids_back(tmp_path):
    path = tmp_path / "c.zarr"
    extract(path, BOTH)
    for name in ("image/c/0", "image_sha256/c/0/0", "image_sha256/zarr.json"):
        (path / name).unlink()
    repair(path, BOTH)
    extract(path, BOTH)
    assert_holds(path, BOTH)
