"""Arguments that stand for arrays and ids: the numbers that are meant, or a refusal."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray
from support.faults import IDS, LAYOUT, SHAPE, make_store, open_writer, settings, token
from support.kinds import REFUSED, SAME, SAME_FLOATS

from cache import (
    CacheError,
    UserError,
    as_array,
    open_cache,
    whole_number,
    whole_numbers,
    write_cache,
)

NUMBERS = np.arange(6, dtype=np.float32).reshape(3, 2)
WANTED = np.array([73, 2, 19, 19, 5])


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return open_cache(make_store(tmp_path_factory.mktemp("store") / "c.zarr"))


@pytest.mark.parametrize("kind", [*SAME, *SAME_FLOATS])
def test_the_same_numbers_in_other_clothes(kind):
    found = as_array((SAME | SAME_FLOATS)[kind](NUMBERS), "numbers", ("image", "neuron"))
    np.testing.assert_array_equal(found, NUMBERS)
    assert type(found) is np.ndarray and found.dtype.isnative
    torch.from_numpy(found.copy() if not found.flags.writeable else found)


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_array_of_numbers_is_refused(kind):
    with pytest.raises(UserError, match=r"^numbers "):
        as_array(REFUSED[kind](NUMBERS), "numbers", ("image", "neuron"))


def test_a_plain_array_is_handed_back_itself():
    assert as_array(NUMBERS, "numbers", ("image", "neuron")) is NUMBERS
    assert whole_numbers(WANTED, "ids") is WANTED


def test_masked_values_are_missing_where_some_may_be():
    masked = np.ma.masked_greater(NUMBERS.astype(int), 4)
    found = as_array(masked, "numbers", ("image", "neuron"), missing=True)
    np.testing.assert_array_equal(found, [[0, 1], [2, 3], [4, np.nan]])


def test_named_axes_are_put_in_order():
    turned = xarray.DataArray(NUMBERS.T, dims=("neuron", "image"))
    np.testing.assert_array_equal(as_array(turned, "numbers", ("image", "neuron")), NUMBERS)


@pytest.mark.parametrize("kind", SAME)
def test_ids_in_other_clothes_are_the_same_images(cache, kind):
    found = cache.block(1).read("cls", SAME[kind](WANTED))
    np.testing.assert_array_equal(found, token(1, "cls", WANTED))


@pytest.mark.parametrize("kind", [*REFUSED, "floats", "unsigned beyond", "integers beyond"])
def test_what_are_no_ids_is_refused(cache, kind):
    more = {
        "floats": lambda ids: ids + 0.9,
        "unsigned beyond": lambda ids: np.array([2**64 - 1], dtype=np.uint64),
        "integers beyond": lambda ids: [2, 2**63 + 5, -1],
    }
    given = (REFUSED | more)[kind](WANTED)
    for use in (
        lambda: cache.block(0).read("cls", given),
        lambda: cache.rows(given),
        lambda: list(cache.block(0).batches("cls", given, 2)),
    ):
        with pytest.raises(UserError, match=r"^images "):
            use()
        if kind == "generator":
            break


def test_a_mask_names_what_to_pass(cache):
    with pytest.raises(UserError, match=r"mask of True and False.*ids\[mask\]"):
        cache.block(0).read("cls", cache.image_ids >= 26)


@pytest.mark.parametrize("value", [True, np.True_, 1.0, "1", None, np.array([1, 2]), [1]])
def test_numbers_that_are_none(cache, value):
    with pytest.raises(UserError, match="whole number"):
        whole_number(value, "n")
    with pytest.raises(UserError, match="block = "):
        cache.block(value)
    with pytest.raises(UserError, match="size = "):
        cache.block(0).batches("cls", IDS, value)


def test_numbers_that_are_some(cache):
    for value in (1, np.int8(1), np.array(1), torch.tensor(1)):
        assert whole_number(value, "n") == 1
        assert cache.block(value).index == 1
    for size in (0, -1):
        with pytest.raises(UserError, match="from 1 on"):
            cache.block(0).batches("cls", IDS, size)


@pytest.mark.parametrize("ids", [[], IDS >= 0, IDS + 0.5, IDS[::-1], np.zeros(21, int), 5])
def test_a_cache_of_no_ids_is_not_begun(tmp_path, ids):
    with (
        pytest.raises(UserError, match="image_ids"),
        write_cache(
            tmp_path / "c.zarr",
            settings=settings(),
            provenance={},
            image_ids=ids,
            shape=SHAPE,
            layout=LAYOUT,
        ),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["mask", "masked", "complex", "objects", "text"])
def test_tokens_that_are_no_numbers_are_not_written(tmp_path, kind):
    with open_writer(tmp_path / "c.zarr") as writer:
        tokens = [
            {kind: token(block, kind, writer.shard_ids(0)) for kind in SHAPE.kinds()}
            for block in range(SHAPE.n_blocks)
        ]
        tokens[0]["cls"] = REFUSED[kind](tokens[0]["cls"])
        with pytest.raises(UserError, match="cls of block 0"):
            writer.write_shard(0, tokens)
        assert 0 in writer.missing_shards()
    with pytest.raises(CacheError):
        open_cache(tmp_path / "c.zarr").block(0).read("cls", IDS[:1])
