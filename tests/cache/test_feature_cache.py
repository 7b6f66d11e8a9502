"""Reading a cache: by block and image id, whole or unfinished, with zarr and xarray."""

import hashlib
import json

import dask.array
import numpy as np
import pytest
import xarray
import zarr
from support.faults import (
    IDS,
    LAYOUT,
    SHAPE,
    content,
    make_store,
    open_writer,
    settings,
    token,
    write_all,
)

from cache import CacheError, open_cache
from cache.format.metadata import CHUNK_CRCS, document_bytes, group_bytes, parse, root_bytes


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("store") / "c.zarr")


@pytest.fixture(scope="module")
def cache(store):
    return open_cache(store)


@pytest.mark.parametrize("kind", SHAPE.kinds())
@pytest.mark.parametrize("block", [0, 1])
def test_images_come_in_the_order_asked_with_duplicates(cache, kind, block):
    wanted = np.array([73, 2, 19, 19, 5, 71])
    read = cache.block(block).read(kind, wanted)
    assert read.dtype == np.float16
    np.testing.assert_array_equal(read, token(block, kind, wanted))


def test_all_images_and_none(cache):
    np.testing.assert_array_equal(cache.block(0).read("patches", IDS), token(0, "patches", IDS))
    assert cache.block(0).read("patches", []).shape == (0, 2, 3, 4)


def test_missing_images_are_named(cache):
    with pytest.raises(CacheError, match=r"2 of 4 images are not in the cache \(4, 1000\)"):
        cache.block(0).read("cls", [4, 2, 1000, 3])
    with pytest.raises(CacheError, match=r"7 of 7 images .*\(80, 81, 82, 83, 84, \.\.\.\)"):
        cache.rows(np.arange(80, 87))


def test_blocks_count_from_either_end(cache):
    assert cache.block(-1).index == 1 and cache.block(-2).index == 0
    with pytest.raises(CacheError, match=r"block 2 of 2: choose 0\.\.1 or -2\.\.-1"):
        cache.block(2)


def test_an_array_that_is_not_held_is_named(tmp_path):
    shape = SHAPE.__class__(n_blocks=1, grid=(1, 1), n_channels=2, n_registers=0, dtype="float16")
    with open_writer(
        tmp_path / "c.zarr",
        shape=shape,
        settings=settings(backbone={"n_blocks": 1}),
    ) as writer:
        for shard in writer.missing_shards():
            n = len(writer.shard_ids(shard))
            writer.write_shard(shard, [{"patches": np.ones((n, 1, 1, 2)), "cls": np.ones((n, 2))}])
        writer.finish()
    with pytest.raises(CacheError, match="holds patches, cls but no registers"):
        open_cache(tmp_path / "c.zarr").block(0).read("registers", IDS)


def test_lazy_arrays_are_zarr_arrays(cache):
    patches = cache.block(1).patches
    assert isinstance(patches, zarr.Array) and patches.chunks == (2, 2, 3, 4)
    np.testing.assert_array_equal(patches[3:9], token(1, "patches", IDS[3:9]))
    np.testing.assert_array_equal(cache.block(1).cls[:], token(1, "cls", IDS))
    np.testing.assert_array_equal(cache.block(0).registers[20], token(0, "registers", IDS[20:])[0])


def test_dask_reads_chunk_by_chunk(cache):
    lazy = dask.array.from_zarr(cache.block(1).patches)
    assert lazy.chunksize == (2, 2, 3, 4)
    np.testing.assert_array_equal(lazy.compute(), token(1, "patches", IDS))


def test_the_store_is_an_xarray_tree_as_it_is(store):
    tree = xarray.open_datatree(store, engine="zarr", consolidated=False, chunks={})
    chosen = tree["blocks/01"].sel(image=[11, 2])
    assert chosen["patches"].dims == ("image", "row", "column", "channel")
    np.testing.assert_array_equal(chosen["patches"], token(1, "patches", np.array([11, 2])))
    assert tree["blocks/00/registers"].dims == ("image", "register", "channel")


def test_where_there_is_no_store(tmp_path):
    with pytest.raises(CacheError, match=r"none: no feature cache there; make it with vitv1"):
        open_cache(tmp_path / "none")
    (tmp_path / "file").write_text("hello")
    with pytest.raises(CacheError, match="file"):
        open_cache(tmp_path / "file")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/zarr.json").write_bytes(group_bytes({"something": "else"}))
    with pytest.raises(CacheError, match="is a zarr store but no feature cache"):
        open_cache(tmp_path / "other")


def rewrite_root(store, **changes):
    """A root that its writer meant so, with a hash of its own."""
    attributes = parse((store / "zarr.json").read_bytes(), where="")["attributes"]
    (store / "zarr.json").write_bytes(root_bytes({**attributes, **changes}))


def test_a_newer_format_is_refused_with_advice(tmp_path):
    store = make_store(tmp_path / "c.zarr")
    rewrite_root(store, format_version=3)
    with pytest.raises(
        CacheError,
        match=r"cache format 3, this vitv1 reads formats 1 and 2: install",
    ):
        open_cache(store)


def test_unknown_attributes_are_tolerated(tmp_path):
    store = make_store(tmp_path / "c.zarr")
    rewrite_root(store, lab="ours", complete=True)
    np.testing.assert_array_equal(open_cache(store).block(0).read("cls", IDS), token(0, "cls", IDS))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"key": "0" * 64}, "settings that do not give its key"),
        ({"settings": {"backbone": {"n_blocks": 2}}}, "settings that do not give its key"),
        ({"provenance": None}, "lacks provenance"),
        ({"complete": 1}, "lacks complete"),
        ({"contents": {"blocks": [0, 0]}}, "contents that no cache has"),
        ({"contents": {"blocks": [7], "arrays": ["cls"]}}, "contents that no cache has"),
        ({"metadata_sha256": {}}, "does not name every other zarr.json"),
    ],
)
def test_roots_that_contradict_themselves(tmp_path, changes, message):
    store = make_store(tmp_path / "c.zarr")
    rewrite_root(store, **changes)
    with pytest.raises(CacheError, match=message):
        open_cache(store)


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text.replace(b'"tiny"', b'"tinY"'),
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: text + b"\n",
        lambda text: json.dumps(json.loads(text)).encode(),
        lambda text: text.replace(b'"self_sha256": "', b'"self_sha256": "0', 1),
        lambda text: text.replace(b'"made"', b'"self_sha256": "' + b"0" * 64 + b'", "made"'),
    ],
)
def test_any_edit_of_the_root_is_noticed(tmp_path, edit):
    store = make_store(tmp_path / "c.zarr")
    text = (store / "zarr.json").read_bytes()
    assert edit(text) != text
    (store / "zarr.json").write_bytes(edit(text))
    with pytest.raises(CacheError, match=r"zarr\.json was changed since"):
        open_cache(store)


def test_an_unfinished_store_gives_its_complete_shards_only(tmp_path):
    store = make_store(tmp_path / "c.zarr", stop_after=1)
    cache = open_cache(store)
    assert not cache.complete and cache.shards_done.tolist() == [True, False, False]
    np.testing.assert_array_equal(
        cache.block(1).read("patches", IDS[:8]), token(1, "patches", IDS[:8])
    )
    np.testing.assert_array_equal(cache.block(1).patches[:8], token(1, "patches", IDS[:8]))
    message = "2 of 3 shards are missing, and with them 13 of the 21 images asked for"
    with pytest.raises(CacheError, match=message):
        cache.block(1).read("patches", IDS)
    with pytest.raises(CacheError, match=r"shard 1 is not written yet, 2 of 3 are missing"):
        cache.block(1).patches[8:9]


def test_a_reader_sees_the_shards_there_were_on_opening(tmp_path):
    store = make_store(tmp_path / "c.zarr", stop_after=1)
    before = open_cache(store)
    with open_writer(store) as writer:
        write_all(writer)
    with pytest.raises(CacheError, match="2 of 3 shards are missing"):
        before.block(0).read("cls", IDS)
    np.testing.assert_array_equal(before.block(0).read("cls", IDS[:8]), token(0, "cls", IDS[:8]))
    assert open_cache(store).complete


def test_plain_zarr_would_return_nothing_where_this_raises(tmp_path):
    """Why reads are verified: zarr takes an absent chunk for one of NaN."""
    store = make_store(tmp_path / "c.zarr")
    (store / "blocks/00/cls/c/1/0").unlink()
    plain = zarr.open_array(store / "blocks/00/cls", mode="r")[8:16]
    assert np.isnan(plain).all()
    with pytest.raises(CacheError, match=r"block 0, cls, images 23\.\.53 \(blocks/00/cls/c/1/0\)"):
        open_cache(store).block(0).read("cls", IDS)
    with pytest.raises(CacheError, match=r"block 0, cls, images 23\.\.53"):
        open_cache(store).block(0).cls[8:16]


def test_swapped_shards_are_noticed_though_every_chunk_is_intact(tmp_path):
    store = make_store(tmp_path / "c.zarr")
    one, other = store / "blocks/00/cls/c/0/0", store / "blocks/00/cls/c/1/0"
    a, b = one.read_bytes(), other.read_bytes()
    one.write_bytes(b)
    other.write_bytes(a)
    cache = open_cache(store)
    for read in (lambda: cache.block(0).read("cls", IDS), lambda: cache.block(0).cls[:]):
        with pytest.raises(CacheError, match=r"block 0, cls, images .* belong elsewhere"):
            read()


def test_sizes_are_compared_with_files_before_memory_is_taken(tmp_path):
    """A root that vouches for absurd sizes, as only an attacker would write it."""
    store = make_store(tmp_path / "c.zarr")
    name = "blocks/00/cls/zarr.json"
    document = parse((store / name).read_bytes(), where=name)
    wide = 2**20
    document["shape"][1] = wide
    document["chunk_grid"]["configuration"]["chunk_shape"][1] = wide
    document["codecs"][0]["configuration"]["chunk_shape"][1] = wide
    lie(store, name, document)
    with pytest.raises(CacheError, match="it has 88 bytes, not "):
        open_cache(store).block(0).read("cls", IDS)
    with pytest.raises(CacheError, match="it has 88 bytes, not "):
        open_cache(store).block(0).cls[:]


def test_more_rows_than_images_are_refused(tmp_path):
    store = make_store(tmp_path / "c.zarr")
    name = "image/zarr.json"
    document = parse((store / name).read_bytes(), where=name)
    document["shape"] = [2**50]
    document["chunk_grid"]["configuration"]["chunk_shape"] = [2**50]
    lie(store, name, document)
    with pytest.raises(CacheError, match="image"):
        open_cache(store).block(0).read("cls", IDS)


def lie(store, name, document):
    """A false zarr.json with the root's blessing."""
    (store / name).write_bytes(document_bytes(document))
    attributes = parse((store / "zarr.json").read_bytes(), where="")["attributes"]
    hashes = attributes["metadata_sha256"]
    hashes[name] = hashlib.sha256((store / name).read_bytes()).hexdigest()
    rewrite_root(store, metadata_sha256=hashes)


def test_a_finished_store_holds_what_the_format_names(store):
    files = content(store)
    documents = {name for name in files if name.endswith("zarr.json")}
    assert len(documents) == 1 + 1 + 2 + 2 + 6
    assert set(files) - documents == {
        "image/c/0",
        "progress/c/0",
        *(f"blocks/{b:02d}/cls/c/{s}/0" for b in range(2) for s in range(3)),
        *(f"blocks/{b:02d}/registers/c/{s}/0/0" for b in range(2) for s in range(3)),
        *(f"blocks/{b:02d}/patches/c/{s}/0/0/0" for b in range(2) for s in range(3)),
    }
    for name in documents - {"zarr.json", "blocks/zarr.json"}:
        attributes = json.loads(files[name])["attributes"]
        assert (CHUNK_CRCS in attributes) == ("codecs" in json.loads(files[name]))


def test_a_copied_store_is_the_same_store(store, tmp_path):
    copied = tmp_path / "elsewhere/copy.zarr"
    for name, data in content(store).items():
        (copied / name).parent.mkdir(parents=True, exist_ok=True)
        (copied / name).write_bytes(data)
    cache = open_cache(copied)
    assert cache.key == open_cache(store).key and cache.images_per_shard == LAYOUT.images_per_shard
    np.testing.assert_array_equal(cache.block(0).read("cls", IDS), token(0, "cls", IDS))
    assert str(store).encode() not in b"".join(content(store).values())


def test_an_open_cache_stays_where_it_is_when_the_working_directory_changes(tmp_path, monkeypatch):
    make_store(tmp_path / "one" / "c.zarr")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "one")
    for path in ("c.zarr", "./c.zarr"):
        cache = open_cache(path)
        monkeypatch.chdir(tmp_path / "other")
        assert len(cache.block(0).read("cls", cache.image_ids)) == len(cache.image_ids)
        monkeypatch.chdir(tmp_path / "one")
