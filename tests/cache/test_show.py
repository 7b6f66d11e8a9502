"""What a cache says of itself; and packed caches in xarray without this package's code."""

import numpy as np
import pytest
import xarray
from support.faults import IDS, make_store, settings, token
from zarr.storage import ZipStore

from cache import open_cache, pack, plan_copy


def test_names_are_text_in_notebooks(tmp_path):
    named = settings()
    named["backbone"]["name"] = "<img src=x onerror=alert(1)>"
    shown = open_cache(make_store(tmp_path / "a.zarr", settings=named))._repr_html_()
    assert "<img" not in shown and "&lt;img src=x" in shown


def test_an_unfinished_one_says_so(tmp_path):
    told = repr(open_cache(make_store(tmp_path / "a.zarr", stop_after=1)))
    assert "tiny, 2 of 2 blocks, 21 images, incomplete, 2 of 3 shards are missing, key" in told


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed")
    pack(plan_copy(open_cache(make_store(folder / "a.zarr"))), folder / "features.zarr.zip")
    return folder / "features.zarr.zip"


def test_a_block_of_a_packed_one_by_url(packed):
    block = xarray.open_zarr(f"zip://blocks/01::{packed}", consolidated=False, chunks={})
    root = xarray.open_zarr(f"zip::{packed}", consolidated=False)
    np.testing.assert_array_equal(root["image"], IDS)
    np.testing.assert_array_equal(block["cls"], token(1, "cls", IDS))


def test_all_of_a_packed_one(packed):
    with ZipStore(packed, mode="r") as store:
        tree = xarray.open_datatree(store, engine="zarr", consolidated=False, chunks={})
        read = tree["blocks/01"].sel(image=[7, 3])["cls"].values
    np.testing.assert_array_equal(read, token(1, "cls", np.array([7, 3])))
