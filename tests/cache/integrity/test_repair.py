"""Repair: only what is damaged is written again, and the result is the store there was."""

import contextlib
import json
import shutil

import numpy as np
import pytest
from support.faults import (
    IDS,
    SHAPE,
    content,
    damage,
    make_store,
    open_writer,
    settings,
    shard_tokens,
    write_all,
)

from cache import CacheError, open_cache, prepare_repair, verify
from cache.format.metadata import parse, root_bytes
from cache.write import atomic


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr("cache.write.atomic._sync", lambda path: None)


def prepare(store, **changed):
    return prepare_repair(
        store,
        **{
            "settings": settings(),
            "provenance": {"made": "by a repair"},
            "image_ids": IDS,
            "shape": SHAPE,
            **changed,
        },
    )


def extract_again(store):
    """What the ordinary extraction does; the shards that it wrote."""
    with open_writer(store) as writer:
        missing = writer.missing_shards()
        if not writer.cache.complete:
            write_all(writer)
    return missing


def flip(path, position=20):
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


@pytest.fixture(scope="module")
def intact(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("intact") / "c.zarr")


@pytest.fixture
def store(intact, tmp_path):
    return shutil.copytree(intact, tmp_path / "c.zarr")


def but_for_the_root(store):
    return {name: data for name, data in content(store).items() if name != "zarr.json"}


def test_nothing_is_done_to_a_sound_store(store, intact):
    done = prepare(store)
    assert not done.shards and not done.rewritten and not done.left
    assert extract_again(store) == [] and content(store) == content(intact)


def test_only_the_damaged_shard_is_extracted_again(store, intact):
    flip(store / "blocks/01/cls/c/1/0")
    assert prepare(store).shards == (1,)
    cache = open_cache(store)
    assert not cache.complete and cache.shards_done.tolist() == [True, False, True]
    assert extract_again(store) == [1]
    assert not verify(store).faults and but_for_the_root(store) == but_for_the_root(intact)


def test_provenance_keeps_the_first_run_and_adds_the_repair(store):
    flip(store / "blocks/01/cls/c/1/0")
    prepare(store)
    extract_again(store)
    assert open_cache(store).provenance == {
        "made": "in a test",
        "repairs": [{"made": "by a repair", "shards": [1]}],
    }


@pytest.mark.parametrize(
    "name",
    [
        "zarr.json",
        "image/zarr.json",
        "image/c/0",
        "progress/zarr.json",
        "progress/c/0",
        "blocks/zarr.json",
        "blocks/01/zarr.json",
        "blocks/01/patches/zarr.json",
    ],
)
@pytest.mark.parametrize("how", ["deleted", "flipped"])
def test_metadata_is_rewritten_without_extracting(store, intact, name, how):
    if how == "deleted":
        (store / name).unlink()
    else:
        flip(store / name, position=5)
    done = prepare(store)
    assert done.shards == () and done.rewritten == (name,)
    assert extract_again(store) == []
    assert not verify(store).faults and but_for_the_root(store) == but_for_the_root(intact)


def test_an_array_is_extracted_again_where_nothing_confirms_it(store, intact):
    """Its zarr.json is lost, and so is a shard that would have confirmed the rebuilt one."""
    (store / "blocks/00/cls/zarr.json").unlink()
    flip(store / "blocks/00/cls/c/1/0", position=66)
    assert prepare(store).shards == (0, 1, 2)
    extract_again(store)
    assert not verify(store).faults and but_for_the_root(store) == but_for_the_root(intact)


def test_swapped_shards_are_told_apart_even_without_a_root(store, intact):
    (store / "zarr.json").unlink()
    one, other = store / "blocks/00/cls/c/0/0", store / "blocks/00/cls/c/1/0"
    a, b = one.read_bytes(), other.read_bytes()
    one.write_bytes(b)
    other.write_bytes(a)
    assert prepare(store).shards == (0, 1)
    extract_again(store)
    assert not verify(store).faults and but_for_the_root(store) == but_for_the_root(intact)


def test_any_two_damages_are_mended(intact, tmp_path):
    rng = np.random.default_rng(3)
    for trial in range(15):
        store = shutil.copytree(intact, tmp_path / f"{trial}.zarr")
        done = [damage(store, rng) for _ in range(2)]
        if content(store) == content(intact):
            continue
        prepare(store)
        extract_again(store)
        assert not verify(store).faults, done
        assert but_for_the_root(store) == but_for_the_root(intact), done


def test_files_of_a_person_are_left_and_named(store):
    (store / "notes.txt").write_text("mine")
    (left,) = prepare(store).left
    assert left.path == "notes.txt" and (store / "notes.txt").read_text() == "mine"


def test_odd_things_in_place_of_files_go(store, intact):
    for name in ("blocks/00/cls/c/0/0", "blocks/01/zarr.json"):
        (store / name).unlink()
        (store / name).mkdir()
    assert prepare(store).shards == (0,)
    extract_again(store)
    assert not verify(store).faults and but_for_the_root(store) == but_for_the_root(intact)


def test_an_unfinished_store_is_left_to_extraction(tmp_path):
    store = make_store(tmp_path / "c.zarr", stop_after=1)
    before = content(store)
    assert prepare(store).shards == () and content(store) == before


def test_a_damaged_unfinished_store_keeps_its_sound_shards(tmp_path):
    store = make_store(tmp_path / "c.zarr", stop_after=2)
    flip(store / "blocks/00/cls/c/0/0")
    flip(store / "blocks/00/patches/zarr.json", position=5)
    assert prepare(store).shards == (0, 2)
    assert extract_again(store) == [0, 2]
    assert not verify(store).faults


def test_other_settings_are_refused_and_nothing_is_touched(store):
    flip(store / "blocks/00/cls/c/0/0")
    before = content(store)
    with pytest.raises(CacheError, match='dtype: "float32" here, "float16" there'):
        prepare(store, settings=settings(dtype="float32"))
    assert content(store) == before


def test_a_part_of_a_cache_is_fetched_again_instead(store):
    attributes = parse((store / "zarr.json").read_bytes(), where="")["attributes"]
    shutil.rmtree(store / "blocks/00")
    attributes["contents"]["blocks"] = [1]
    hashes = attributes["metadata_sha256"]
    attributes["metadata_sha256"] = {k: v for k, v in hashes.items() if "blocks/00" not in k}
    (store / "zarr.json").write_bytes(root_bytes(attributes))
    assert not verify(store).faults
    with pytest.raises(CacheError, match="part of a cache: fetch it again with vitv1 cache pull"):
        prepare(store)


def test_where_there_is_nothing_to_repair(tmp_path):
    with pytest.raises(CacheError, match="no feature cache there"):
        prepare(tmp_path / "none")


def test_a_repair_that_is_cut_short_claims_nothing_false(store, intact, monkeypatch):
    """Stopped after each of its writes, a second repair still ends in the store there was."""
    place = atomic.replaced
    for allowed in (0, 1, 2, 3, 8, 13):
        shutil.rmtree(store)
        shutil.copytree(intact, store)
        flip(store / "blocks/01/cls/c/1/0")
        (store / "blocks/00/cls/zarr.json").unlink()
        left = allowed

        def stop(*arguments, **options):
            nonlocal left
            if left == 0:
                raise KeyboardInterrupt
            left -= 1
            return place(*arguments, **options)

        with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
            patch.setattr("cache.write.atomic.replaced", stop)
            prepare(store)
        prepare(store)
        extract_again(store)
        assert not verify(store).faults
        assert but_for_the_root(store) == but_for_the_root(intact)


def test_tokens_after_repair_are_the_expected_ones(store):
    flip(store / "blocks/01/cls/c/1/0")
    prepare(store)
    extract_again(store)
    expected = shard_tokens(IDS)
    cache = open_cache(store)
    for block, kinds in enumerate(expected):
        for kind, values in kinds.items():
            np.testing.assert_array_equal(cache.block(block).read(kind, IDS), values)
    assert json.loads((store / "zarr.json").read_bytes())["attributes"]["complete"]
