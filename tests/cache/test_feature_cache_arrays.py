"""Arrays of a cache in Python: dask, xarray, batches, selection by id; local, packed, remote."""

import shutil
import sys

import dask
import dask.array
import numpy as np
import pytest
import xarray as xr
from support.faults import IDS, LAYOUT, make_store, token
from support.servers import nginx

from cache import CacheError, open_cache, pack, plan_copy


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("local") / "a.zarr")


@pytest.fixture(scope="module")
def packed(store):
    path = store.with_name("a.zarr.zip")
    pack(plan_copy(open_cache(str(store))), path)
    return path


@pytest.mark.parametrize("place", ["directory", "packed"])
def test_dask_has_the_chunks_of_the_store_and_its_values(place, store, packed):
    block = open_cache(str(store if place == "directory" else packed)).block(1)
    for kind in ("patches", "cls", "registers"):
        lazy = block.dask(kind)
        assert isinstance(lazy, dask.array.Array)
        assert lazy.chunks[0][0] == LAYOUT.images_per_chunk[kind]
        assert all(len(axis) == 1 for axis in lazy.chunks[1:])
        assert np.array_equal(lazy.compute(), token(1, kind, IDS))
    mean = block.dask("patches").astype("float64").mean(axis=(0, 1, 2)).compute()
    np.testing.assert_allclose(mean, token(1, "patches", IDS).astype(float).mean(axis=(0, 1, 2)))


def test_dask_over_http_in_other_processes_and_without_secrets(store, tmp_path):
    with nginx(tmp_path) as web:
        shutil.copytree(store, web.files / "a.zarr")
        url = web.url("a.zarr", location="private", user="lab:s3cr3t@")
        lazy = open_cache(url).block(0).dask("patches")
        assert "s3cr3t" not in repr(lazy) and "s3cr3t" not in str(lazy.name)
        with dask.config.set(scheduler="processes", num_workers=2):
            assert np.array_equal(lazy[3:12].compute(), token(0, "patches", IDS[3:12]))


def test_dask_names_are_those_of_the_content(store, packed):
    one, other = open_cache(str(store)), open_cache(str(packed))
    assert one.block(0).dask("cls").name == other.block(0).dask("cls").name
    names = {one.block(b).dask(kind).name for b in (0, 1) for kind in one.kinds}
    assert len(names) == 6


def test_damage_is_found_through_dask(store, tmp_path):
    bad = shutil.copytree(store, tmp_path / "bad.zarr")
    path = bad / "blocks/01/patches/c/1/0/0/0"
    path.write_bytes(path.read_bytes()[:120] + bytes(8) + path.read_bytes()[128:])
    with pytest.raises(CacheError, match="block 1, patches, images"):
        open_cache(str(bad)).block(1).dask("patches").sum().compute()


def test_without_dask_the_package_is_named(store, monkeypatch):
    monkeypatch.setitem(sys.modules, "dask", None)
    monkeypatch.setitem(sys.modules, "dask.array", None)
    with pytest.raises(CacheError, match="pip install 'dask"):
        open_cache(str(store)).block(0).dask("cls")


@pytest.mark.parametrize("chunks", [None, {}])
def test_xarray_opens_the_store_as_it_is(store, chunks):
    with xr.open_datatree(store, engine="zarr", consolidated=False, chunks=chunks) as tree:
        chosen = tree["blocks/01"].sel(image=[73, 2])
        assert chosen["patches"].dims == ("image", "row", "column", "channel")
        assert chosen["registers"].dims == ("image", "register", "channel")
        expected = token(1, "patches", np.array([73, 2]))
        assert np.array_equal(chosen["patches"].values, expected)
        assert tree.attrs["format"] == "vitv1-feature-cache"


def test_batches_keep_the_order_and_leave_out_nothing(store):
    block = open_cache(str(store)).block(1)
    ids = np.random.default_rng(0).permutation(IDS)
    batches = list(block.batches("patches", ids, 8))
    assert [len(batch) for batch in batches] == [8, 8, 5]
    assert np.array_equal(np.concatenate(batches), token(1, "patches", ids))
    assert list(block.batches("cls", [], 8)) == []


def test_missing_ids_are_named_before_the_first_batch(store):
    block = open_cache(str(store)).block(0)
    with pytest.raises(CacheError, match=r"2 of 4 images are not in the cache \(4, 100\)"):
        block.batches("cls", [2, 4, 3, 100], 2)
    with pytest.raises(CacheError, match=r"\(4, 100\)"):
        block.read("cls", [2, 4, 3, 100])
