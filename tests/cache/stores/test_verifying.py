"""Readers of a cache that another one replaces get tokens of the one they opened, or an error."""

import pickle
import threading

import numpy as np
import pytest
from support.faults import IDS, SHAPE, make_store, open_writer, settings, shard_tokens, token

from cache import CacheError, open_cache, pack, plan_copy
from cache.format.metadata import ROOT, SHARD_SUMS, parse, root_bytes

OTHER = settings(dtype="float16", precision="bfloat16")
KINDS = [(block, kind) for block in range(SHAPE.n_blocks) for kind in SHAPE.kinds()]
GONE = "is not the cache any more that was opened: it was replaced or moved meanwhile; run again"


def make_other(path, *, stop_after=None):
    """A store of the same layout and images, of another key and other tokens."""
    with open_writer(path, settings=OTHER) as writer:
        for shard in writer.missing_shards()[:stop_after]:
            tokens = shard_tokens(writer.shard_ids(shard))
            writer.write_shard(shard, [{k: v + 1 for k, v in kinds.items()} for kinds in tokens])
        if stop_after is None:
            writer.finish()
    return path


def forget_sums(store):
    """Make an unfinished store one that version 0.1.0 began."""
    attributes = parse((store / ROOT).read_bytes(), where="")["attributes"]
    del attributes[SHARD_SUMS]
    (store / ROOT).write_bytes(root_bytes(attributes))


def swap(one, other):
    away = one.with_name("away.zarr")
    one.rename(away)
    other.rename(one)
    away.rename(other)


def right(read, block, kind, n):
    """Whether the tokens of the first images are these; an error counts, a wrong token does not."""
    try:
        tokens = read()
    except CacheError as error:
        return str(error)
    np.testing.assert_array_equal(tokens, token(block, kind, IDS[:n]))
    return "read"


@pytest.mark.parametrize("earlier", [False, True], ids=["recorded", "begun by 0.1.0"])
@pytest.mark.parametrize("after", [1, None], ids=["by unfinished", "by finished"])
@pytest.mark.parametrize("begun", [False, True], ids=["before a read", "after a read"])
def test_an_unfinished_store_that_is_replaced_is_not_read(tmp_path, earlier, after, begun):
    store, other = make_store(tmp_path / "c.zarr", stop_after=1), tmp_path / "other.zarr"
    make_other(other, stop_after=after)
    if earlier:
        forget_sums(store)
    cache = open_cache(store)
    if begun:
        cache.block(0).read("cls", IDS[:8])
    swap(store, other)
    for block, kind in KINDS:
        with pytest.raises(CacheError, match=GONE):
            cache.block(block).read(kind, IDS[:8])
        with pytest.raises(CacheError, match=GONE):
            cache.block(block).array(kind)[:8]
    swap(store, other)
    for block, kind in KINDS:
        assert right(lambda: cache.block(block).read(kind, IDS[:8]), block, kind, 8) == "read"  # noqa: B023


def test_a_store_that_comes_and_goes_is_not_read(tmp_path):
    """The root, read again, may be that of the opened store: the record of the shard decides."""
    store, other = make_store(tmp_path / "c.zarr", stop_after=2), tmp_path / "other.zarr"
    make_other(other, stop_after=2)
    caches = [open_cache(store) for _ in range(20)]
    for cache in caches:
        _ = cache.image_ids, [cache.block(block).array(kind) for block, kind in KINDS]
    stop = threading.Event()

    def alternate():
        while not stop.is_set():
            swap(store, other)

    swapping = threading.Thread(target=alternate)
    swapping.start()
    try:
        for cache in caches:
            for block, kind in KINDS:
                right(lambda: cache.block(block).read(kind, IDS[:16]), block, kind, 16)  # noqa: B023
    finally:
        stop.set()
        swapping.join()


def test_a_shard_of_an_unfinished_store_must_be_the_recorded_one(tmp_path):
    store = make_store(tmp_path / "c.zarr", stop_after=2)
    other = make_other(tmp_path / "other.zarr", stop_after=2)
    name = "blocks/01/cls/c/0/0"
    (store / name).write_bytes((other / name).read_bytes())
    cache = open_cache(store)
    with pytest.raises(CacheError, match=r"shard 0 is not as it was written: vitv1 extract writes"):
        cache.block(1).read("cls", IDS[:8])
    later = IDS[8:16]
    np.testing.assert_array_equal(cache.block(1).read("cls", later), token(1, "cls", later))


@pytest.mark.parametrize("sums", [7, ["", None], []])
def test_records_of_shards_that_no_cache_has(tmp_path, sums):
    store = make_store(tmp_path / "c.zarr", stop_after=2)
    attributes = parse((store / ROOT).read_bytes(), where="")["attributes"]
    (store / ROOT).write_bytes(root_bytes({**attributes, SHARD_SUMS: sums}))
    with pytest.raises(CacheError):
        open_cache(store).block(0).read("cls", IDS[:8])


@pytest.mark.parametrize("how", ["as it is", "pickled"])
def test_a_finished_store_that_is_replaced_is_not_read(tmp_path, how):
    store, other = make_store(tmp_path / "c.zarr"), make_other(tmp_path / "other.zarr")
    cache, begun = open_cache(store), open_cache(store)
    for block, kind in KINDS:
        begun.block(block).read(kind, IDS)
    lazy = begun.block(1).cls
    swap(store, other)
    lazy = lazy if how == "as it is" else pickle.loads(pickle.dumps(lazy))
    reads = [
        lambda: cache.block(0).read("cls", IDS),
        lambda: begun.block(0).read("patches", IDS),
        lambda: lazy[:],
    ]
    for read in reads:
        with pytest.raises(CacheError, match=GONE):
            read()


def test_a_packed_file_that_is_replaced_is_not_read(tmp_path):
    paths = [make_store(tmp_path / "c.zarr"), make_other(tmp_path / "other.zarr")]
    packed = [path.with_suffix(".zarr.zip") for path in paths]
    for path, file in zip(paths, packed, strict=True):
        pack(plan_copy(open_cache(path)), file)
    cache, begun = open_cache(packed[0]), open_cache(packed[0])
    begun.block(0).read("cls", IDS)
    packed[1].replace(packed[0])
    for each in (cache, begun):
        for block, kind in KINDS:
            with pytest.raises(CacheError):
                each.block(block).read(kind, IDS)


def test_a_cache_is_opened_again_by_its_key(tmp_path):
    store = make_store(tmp_path / "c.zarr")
    key = open_cache(store).key
    assert open_cache(store, key=key).key == key
    swap(store, make_other(tmp_path / "other.zarr"))
    message = rf"c\.zarr holds other tokens than before \(key \w{{12}}\.\., not {key[:12]}\.\.\)"
    with pytest.raises(CacheError, match=message):
        open_cache(store, key=key)
    with pytest.raises(CacheError, match="holds other tokens than before"):
        open_cache(tmp_path / "c.zarr", key="0" * 64)
