"""Caches whose blocks differ in grid, width and places, and caches without CLS."""

import numpy as np
import pytest
import xarray as xr
from zarr.storage import ZipStore

from cache import (
    BlockShape,
    CacheError,
    Places,
    TokenShape,
    UserError,
    cache_info,
    open_cache,
    pack,
    plan_copy,
    plan_layout,
    prepare_repair,
    pull,
    verify,
    write_cache,
)

BLOCKS = [
    BlockShape(
        grid=(2**step * 2, 2**step * 4),
        n_channels=width,
        places=Places(stride=(32 >> step,) * 2, first_centre=(16 >> step,) * 2),
    )
    for step, width in ((2, 3), (1, 5), (1, 6))
]
SHAPE = TokenShape.of_blocks(BLOCKS, n_registers=0, has_cls=False, dtype="float32")
SETTINGS = {"backbone": {"name": "stages", "n_blocks": 3}, "dtype": "float32"}
IDS = np.arange(100, 200)


def tokens(block, ids):
    values = np.arange(np.prod(SHAPE.item("patches", block)), dtype=np.float32)
    return ids[:, None, None, None] + values.reshape(SHAPE.item("patches", block)) / 1024 + block


def hashes(ids):
    return np.repeat(ids.astype(np.uint8)[:, None], 32, axis=1)


def fill(path, ids=IDS, *, stop_after=None):
    with write_cache(
        path,
        settings=SETTINGS,
        provenance={},
        image_ids=ids,
        image_sha256=hashes(ids),
        shape=SHAPE,
        layout=plan_layout(SHAPE, n_images=len(ids)),
    ) as writer:
        for count, shard in enumerate(writer.missing_shards()):
            if count == stop_after:
                return
            of_shard = writer.shard_ids(shard)
            writer.write_shard(shard, [{"patches": tokens(b, of_shard)} for b in range(3)])
        writer.finish()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("unlike") / "c.zarr"
    fill(path)
    return path


def test_every_block_has_its_own_grid_width_and_places(store):
    cache = open_cache(store)
    assert cache.kinds == ["patches"] and cache.places is None
    assert cache.token_shape == SHAPE
    for block in range(3):
        read = cache.block(block).read("patches", IDS[[90, 3, 3]])
        np.testing.assert_array_equal(read, tokens(block, IDS[[90, 3, 3]]))
        assert cache.block(block).places == BLOCKS[block].places
    assert verify(store).faults == []
    assert "8 x 16 x 3 to 4 x 8 x 5 to 4 x 8 x 6" in cache._repr_html_()
    assert cache_info(cache)["shapes"]["1"] == {"patches": [4, 8, 5]}


def test_a_kind_that_no_block_has_is_refused_by_name(store):
    with pytest.raises(CacheError, match="holds patches but no cls"):
        open_cache(store).block(0).read("cls", IDS[:1])


def test_xarray_alone_opens_it(store, tmp_path):
    pack(plan_copy(open_cache(store)), tmp_path / "c.zarr.zip")
    for source in (store, ZipStore(tmp_path / "c.zarr.zip", mode="r")):
        tree = xr.open_datatree(source, engine="zarr", consolidated=False, chunks={})
        assert dict(tree["blocks/02"].patches.sizes) == {
            "image": 100,
            "row": 4,
            "column": 8,
            "channel": 6,
        }
        np.testing.assert_array_equal(tree["blocks/00"].patches[7], tokens(0, IDS[7:8])[0])


def test_a_part_keeps_its_blocks_shape(store, tmp_path):
    pull(plan_copy(open_cache(store), blocks=[1]), tmp_path / "part.zarr")
    part = open_cache(tmp_path / "part.zarr")
    assert (
        part.block(1).shape == BLOCKS[1]
        and not part.has_cls
        and verify(tmp_path / "part.zarr").faults == []
    )
    assert part.key == open_cache(store).key


def test_what_was_interrupted_goes_on_and_grows(tmp_path):
    path = tmp_path / "c.zarr"
    fill(path, IDS[:70], stop_after=1)
    fill(path, IDS[:70])
    fill(path)
    cache = open_cache(path)
    assert verify(path).faults == [] and cache.token_shape == SHAPE
    np.testing.assert_array_equal(cache.block(2).read("patches", IDS), tokens(2, IDS))


def test_a_lost_zarr_json_of_a_block_and_a_damaged_chunk_are_mended(tmp_path):
    path = tmp_path / "c.zarr"
    fill(path)
    (path / "blocks/01/patches/zarr.json").unlink()
    chunks = path / "blocks/02/patches/c/1/0/0/0"
    content = bytearray(chunks.read_bytes())
    content[10] ^= 1
    chunks.write_bytes(content)
    assert {fault.block for fault in verify(path).faults} >= {2}
    repair = prepare_repair(
        path,
        settings=SETTINGS,
        provenance={},
        image_ids=IDS,
        image_sha256=hashes(IDS),
        shape=SHAPE,
    )
    assert repair.shards == (1,)
    fill(path)
    assert verify(path).faults == [] and open_cache(path).token_shape == SHAPE


def test_places_of_alike_blocks_are_said_once():
    alike = TokenShape.of_blocks([BLOCKS[0]] * 2, n_registers=1, has_cls=True, dtype="float16")
    plain = TokenShape(
        n_blocks=2,
        grid=(8, 16),
        n_channels=3,
        n_registers=1,
        dtype="float16",
        places=BLOCKS[0].places,
    )
    assert alike == plain and alike.kinds() == ("patches", "cls", "registers")
    assert alike.image_bytes == 2 * 2 * 3 * (8 * 16 + 1 + 1)


def test_format_1_does_not_have_them(tmp_path):
    given = {"settings": SETTINGS, "provenance": {}, "image_ids": IDS, "format_version": 1}
    layout = plan_layout(SHAPE, n_images=len(IDS))
    with (
        pytest.raises(UserError, match="no blocks that differ, or without CLS: use 2"),
        write_cache(tmp_path / "c.zarr", **given, shape=SHAPE, layout=layout),
    ):
        pass
    assert not (tmp_path / "c.zarr").exists()
