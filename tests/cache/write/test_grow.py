"""Growth of a cache: images are appended, and the cache is the old one until all are there."""

import shutil

import numpy as np
import pytest
from support.faults import SHAPE, content, open_writer, token, write_all
from support.growth import (
    BOTH,
    FIRST,
    assert_holds,
    extract,
    grower,
    growth_kills,
    hashes_of,
    recipe,
)

from cache import CacheError, UserError, open_cache, verify
from cache.write import grow


@pytest.mark.parametrize("n_first", [5, 8, 11])
def test_only_what_is_missing_is_computed(tmp_path, n_first):
    """With a last shard that is full, and with one that is not."""
    path, first = tmp_path / "c.zarr", BOTH[::-1][:n_first][::-1]
    assert set(extract(path, first)) == set(first)
    assert set(extract(path, BOTH)) == set(BOTH) - set(first)
    assert_holds(path, BOTH)
    # The rows that were there are where they were.
    assert list(open_cache(path).image_ids[:n_first]) == list(first)
    assert len(extract(path, first)) == len(extract(path, BOTH)) == 0
    assert [p.name for p in tmp_path.iterdir() if "vitv1" in p.name] == []


def test_kills_lose_nothing(tmp_path):
    found = growth_kills(tmp_path, 5)
    assert found == {"kills": 5, "lost": 0, "not rerunnable": 0, "with leftovers": 0}


def test_full_shards_are_linked_not_copied(tmp_path):
    path = tmp_path / "c.zarr"
    extract(path, FIRST)
    inode = (path / "blocks/00/cls/c/0/0").stat().st_ino
    extract(path, BOTH)
    assert (path / "blocks/00/cls/c/0/0").stat().st_ino == inode


def test_the_key_is_the_recipes_and_the_digest_that_of_the_images(tmp_path):
    one, other = tmp_path / "a.zarr", tmp_path / "b.zarr"
    extract(one, FIRST)
    extract(other, BOTH)
    before = open_cache(one).images_digest(FIRST)
    extract(one, BOTH)
    a, b = open_cache(one), open_cache(other)
    assert a.key == b.key and before == a.images_digest(FIRST) == b.images_digest(FIRST)
    assert before != a.images_digest(BOTH)


@pytest.mark.parametrize("swap", [True, False])
def test_readers_that_were_there_before_go_on(tmp_path, monkeypatch, swap):
    """Lazy arrays, blocks that nobody looked at yet, and ids, whenever they are asked for."""
    if not swap:
        monkeypatch.setattr(grow, "exchange", lambda one, other: False)
    path = tmp_path / "c.zarr"
    extract(path, FIRST)
    fresh, used = open_cache(path), open_cache(path)
    lazy, ids = used.block(0).patches, used.image_ids
    np.testing.assert_array_equal(used.block(0).read("cls", ids), token(0, "cls", ids))
    extract(path, BOTH)
    for block in range(SHAPE.n_blocks):
        for kind in SHAPE.kinds():
            np.testing.assert_array_equal(
                used.block(block).read(kind, ids), token(block, kind, ids)
            )
    np.testing.assert_array_equal(lazy[:], token(0, "patches", ids))
    np.testing.assert_array_equal(fresh.block(1).read("cls", FIRST), token(1, "cls", FIRST))
    assert len(open_cache(path).image_ids) == len(BOTH)


def test_a_cache_of_other_images_in_its_place_is_not_read(tmp_path):
    """The same recipe, so the same key."""
    path = tmp_path / "c.zarr"
    extract(path, FIRST)
    cache = open_cache(path)
    shutil.rmtree(path)
    extract(path, BOTH)
    with pytest.raises(CacheError, match="not the cache any more"):
        cache.block(0).read("cls", FIRST)


def test_an_interrupted_growth_goes_on_and_the_old_cache_stays(tmp_path):
    path = tmp_path / "c.zarr"
    extract(path, FIRST)
    before = content(path)
    with grower(path, BOTH) as writer:
        first, *_ = writer.missing_shards()
        write_all(writer, stop_after=1)
    assert content(path) == before and not verify(path).faults
    with grower(path, BOTH) as writer:
        assert first not in writer.missing_shards()
        write_all(writer)
    assert_holds(path, BOTH)


def test_who_wants_others_begins_anew(tmp_path):
    path = tmp_path / "c.zarr"
    extract(path, FIRST)
    with grower(path, BOTH) as writer:
        write_all(writer, stop_after=1)
    extract(path, BOTH[:-3])
    assert_holds(path, np.union1d(FIRST, BOTH[:-3]))


def test_a_growth_that_was_killed_before_the_names_changed_takes_its_place(tmp_path, monkeypatch):
    path = tmp_path / "c.zarr"
    extract(path, FIRST)
    with monkeypatch.context() as patched:
        patched.setattr(grow, "_place", lambda grown, path: None)
        with grower(path, BOTH) as writer:
            write_all(writer)
    assert len(extract(path, BOTH)) == 0
    assert_holds(path, BOTH)


def test_between_two_names_nothing_is_lost(tmp_path):
    path, before = tmp_path / "c.zarr", tmp_path / "c.zarr.vitv1-before"
    extract(path, FIRST)
    path.rename(before)
    grow.recover_grown(path)
    assert_holds(path, FIRST)
    path.rename(before)
    extract(path, BOTH)
    assert_holds(path, BOTH)


def test_a_begun_cache_is_finished_before_it_grows(tmp_path):
    path = tmp_path / "c.zarr"
    with grower(path, FIRST) as writer:
        write_all(writer, stop_after=1)
    with pytest.raises(CacheError, match="3 images that it lacks are none of this"):
        extract(path, BOTH[1::2])
    assert set(extract(path, BOTH)) == set(BOTH) - set(FIRST[:8])
    assert_holds(path, BOTH)


def test_other_pictures_under_an_id_are_refused(tmp_path):
    path, other = tmp_path / "c.zarr", hashes_of(BOTH)
    extract(path, FIRST)
    other[2, 5] ^= 1
    with pytest.raises(CacheError, match=r"1 of 21 images are other pictures there, .* id 4: name"):
        extract(path, BOTH, image_sha256=other)
    assert_holds(path, FIRST)
    with grower(path, BOTH, image_sha256=other, replace=True) as writer:
        assert len(writer.cache.image_ids) == 21 and not writer.cache.complete


def test_nothing_is_added_to_damage(tmp_path):
    path = tmp_path / "c.zarr"
    extract(path, FIRST)
    file = path / "blocks/01/cls/c/0/0"
    file.write_bytes(file.read_bytes()[:-40] + bytes(40))
    with pytest.raises(CacheError, match=r"shards \[0\] are damaged"):
        extract(path, BOTH)


def test_caches_without_hashes_stay_as_they_are(tmp_path):
    path = tmp_path / "c.zarr"
    with open_writer(path, settings=recipe(), image_ids=FIRST) as writer:
        write_all(writer)
    assert open_cache(path).image_sha256 is None and open_cache(path).images_digest(FIRST) is None
    with pytest.raises(CacheError, match="no hashes of its images"):
        extract(path, BOTH)


def test_hashes_are_what_is_meant(tmp_path):
    for hashes in (hashes_of(FIRST)[:-1], hashes_of(FIRST).astype(int)):
        with pytest.raises(UserError, match="image_sha256 has shape"):
            extract(tmp_path / "c.zarr", FIRST, image_sha256=hashes)
    with pytest.raises(UserError, match="format_version = 1 knows no hashes"):
        extract(tmp_path / "c.zarr", FIRST, format_version=1)


@pytest.mark.parametrize("name", ["image_sha256/c/0/0", "image_sha256/zarr.json", "image/c/0"])
def test_verify_finds_changed_hashes(tmp_path, name):
    path = tmp_path / "c.zarr"
    extract(path, FIRST)
    data = bytearray((path / name).read_bytes())
    data[len(data) // 2] ^= 4
    (path / name).write_bytes(data)
    assert name in {fault.path for fault in verify(path).faults}
