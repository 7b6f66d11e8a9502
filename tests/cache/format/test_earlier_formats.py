"""Format 1 as it was when it was fixed: a committed store that every later reader must read.

It was made by `support.faults.make_store(Path("format-1.zarr"), format_version=1)`.
"""

import hashlib
import re
import shutil
from pathlib import Path

import numpy as np
import xarray
import zarr
from support.faults import IDS, SHAPE, content, make_store, settings, token

import cache as package
from cache import key_of, open_cache, verify

STORE = Path(__file__).parents[2] / "data/format-1.zarr"
SHA256 = "6fcfb30c811836263c8f7eb0415804ec1f87b09c4ba5ffbbbd5226a80ed423b4"


def test_the_committed_store_is_the_committed_store():
    files = "".join(
        f"{name} {hashlib.sha256(data).hexdigest()}\n" for name, data in content(STORE).items()
    )
    assert hashlib.sha256(files.encode()).hexdigest() == SHA256


def test_it_is_read():
    cache = open_cache(STORE)
    assert cache.complete and cache.blocks == [0, 1] and cache.kinds == list(SHAPE.kinds())
    np.testing.assert_array_equal(cache.image_ids, IDS)
    for block in cache.blocks:
        for kind in cache.kinds:
            expected = token(block, kind, IDS)
            np.testing.assert_array_equal(cache.block(block).read(kind, IDS), expected)
            np.testing.assert_array_equal(cache.block(block).array(kind)[:], expected)


def test_it_is_sound():
    checkup = verify(STORE)
    assert not checkup.faults and not checkup.unchecked


def test_others_read_it():
    plain = zarr.open_group(STORE, mode="r")
    np.testing.assert_array_equal(plain["blocks/01/patches"][:], token(1, "patches", IDS))
    tree = xarray.open_datatree(STORE, engine="zarr", consolidated=False, chunks={})
    chosen = tree["blocks/00"].sel(image=[73, 2])["registers"]
    np.testing.assert_array_equal(chosen, token(0, "registers", np.array([73, 2])))


def test_its_key_is_still_computed_the_same():
    assert open_cache(STORE).key == key_of(settings())
    assert key_of(settings()) == "94bcfe591ddbc3cd76c8c072155502fea248cdbd69fd9c69c48d967816ef7b38"


def test_writers_still_write_the_same_bytes(tmp_path):
    assert content(make_store(tmp_path / "c.zarr", format_version=1)) == content(STORE)


def test_it_is_sound_wherever_it_is_copied(tmp_path):
    assert not verify(shutil.copytree(STORE, tmp_path / "a copy, elsewhere.zarr")).faults


def test_the_specification_comes_with_the_package():
    text = (Path(package.__file__).parent / "FORMAT.md").read_text("utf-8")
    assert "MUST" in text and "MAY" in text
    # The example in it is the committed store's.
    assert open_cache(STORE).key in text
    assert not re.search(r"\bTODO\b|@@", text)
