"""Format 2: what is lost reads as nothing, and stores of format 1 stay what they are."""

import dataclasses
import shutil

import numpy as np
import pytest
import xarray
import zarr
from support.faults import (
    IDS,
    SHAPE,
    content,
    make_store,
    open_writer,
    settings,
    shard_tokens,
    token,
    write_all,
)

from cache import cache_info, open_cache, pack, plan_copy, prepare_repair, pull, verify

VERSIONS = pytest.mark.parametrize("version", [1, 2])


def version_of(store):
    return open_cache(store).store.attributes["format_version"]


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_without_this_package_a_lost_shard_is_not_a_number(tmp_path, dtype):
    store = make_store(
        tmp_path / "c.zarr",
        shape=dataclasses.replace(SHAPE, dtype=dtype),
        settings=settings(dtype=dtype),
    )
    assert version_of(store) == 2
    shutil.rmtree(store / "blocks/01/patches/c/1")
    shutil.rmtree(store / "blocks/01/cls/c/2")
    plain = zarr.open_group(store, mode="r")["blocks/01"]
    tree = xarray.open_datatree(store, engine="zarr", consolidated=False, chunks={})["blocks/01"]
    for read in (plain, tree):
        patches, cls = np.asarray(read["patches"][:]), np.asarray(read["cls"][:])
        assert patches.dtype == dtype and np.isnan(patches[8:16]).all() and np.isnan(cls[16:]).all()
        kept = [*range(8), *range(16, 21)]
        np.testing.assert_array_equal(patches[kept], token(1, "patches", IDS[kept]))


def test_lost_image_ids_are_no_ids(tmp_path):
    store = make_store(tmp_path / "c.zarr")
    (store / "image/c/0").unlink()
    assert (zarr.open_group(store, mode="r")["image"][:] == -1).all()


@VERSIONS
def test_a_begun_store_is_finished_as_it_was_begun(tmp_path, version):
    path, whole = tmp_path / "c.zarr", make_store(tmp_path / "w.zarr", format_version=version)
    make_store(path, stop_after=1, format_version=version)
    with open_writer(path) as writer:
        assert writer.missing_shards() == [1, 2]
        write_all(writer)
    assert content(path) == content(whole) and not verify(path).faults


@VERSIONS
@pytest.mark.parametrize(
    "lost", ["zarr.json", "blocks/01/patches/zarr.json", "blocks/00/cls/c/1/0"]
)
def test_a_store_is_repaired_as_it_was(tmp_path, version, lost):
    store = make_store(tmp_path / "c.zarr", format_version=version)
    (store / lost).unlink()
    made = {"settings": settings(), "provenance": {"made": "again"}}
    prepare_repair(store, image_ids=IDS, shape=SHAPE, **made)
    with open_writer(store) as writer:
        for shard in writer.missing_shards():
            writer.write_shard(shard, shard_tokens(writer.shard_ids(shard)))
        if not writer.cache.complete:
            writer.finish()
    assert not verify(store).faults and version_of(store) == version


@VERSIONS
def test_copies_keep_the_format_and_the_key(tmp_path, version):
    store = open_cache(make_store(tmp_path / "c.zarr", format_version=version))
    assert cache_info(store)["format_version"] == version
    pack(plan_copy(store), tmp_path / "p.zarr.zip")
    pull(plan_copy(store, blocks=[1]), tmp_path / "part.zarr")
    for copy in ("p.zarr.zip", "part.zarr"):
        assert not verify(tmp_path / copy).faults and version_of(tmp_path / copy) == version
        again = open_cache(tmp_path / copy)
        assert again.key == store.key
        np.testing.assert_array_equal(again.block(1).read("cls", IDS), token(1, "cls", IDS))


def test_both_formats_of_the_same_tokens_have_one_key(tmp_path):
    """So what was fitted from an earlier cache is up to date with a later one."""
    stores = [open_cache(make_store(tmp_path / f"{v}.zarr", format_version=v)) for v in (1, 2)]
    assert stores[0].key == stores[1].key
    with open_writer(tmp_path / "1.zarr") as writer:
        assert writer.cache.complete and not writer.missing_shards()


@VERSIONS
def test_a_fill_value_of_the_other_format_is_found(tmp_path, version):
    store = make_store(tmp_path / "c.zarr", format_version=version)
    other = make_store(tmp_path / "o.zarr", format_version=3 - version)
    shutil.copy(other / "blocks/00/cls/zarr.json", store / "blocks/00/cls/zarr.json")
    assert [fault.path for fault in verify(store).faults] == ["blocks/00/cls/zarr.json"]
