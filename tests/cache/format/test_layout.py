"""The cut of tokens into chunks and shards."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache import SHARD_BYTES, BlockShape, TokenShape, plan_layout
from cache.format.arrays import CRC_BYTES
from cache.format.layout import CHUNK_BYTES
from cache.format.metadata import planned_arrays

SHAPES = st.builds(
    TokenShape,
    n_blocks=st.integers(1, 24),
    grid=st.tuples(st.integers(1, 32), st.integers(1, 32)),
    n_channels=st.sampled_from([3, 48, 384, 768, 1024]),
    n_registers=st.integers(0, 4),
    dtype=st.sampled_from(["float16", "float32"]),
)


@given(shape=SHAPES, n_images=st.integers(1, 100_000))
def test_chunks_divide_shards_and_keep_to_their_bytes(shape, n_images):
    layout = plan_layout(shape, n_images=n_images)
    assert list(layout.images_per_chunk) == list(shape.kinds())
    for kind, chunk in layout.images_per_chunk.items():
        assert layout.images_per_shard % chunk == 0
        assert chunk == 1 or chunk * shape.item_bytes(kind) <= CHUNK_BYTES
    shard = layout.images_per_shard
    assert shard == 1 or shard * shape.image_bytes <= SHARD_BYTES
    assert shard < 2 * n_images


@given(
    grids=st.lists(st.tuples(st.integers(1, 64), st.integers(1, 64)), min_size=1, max_size=6),
    channels=st.sampled_from([3, 96, 768]),
    n_images=st.integers(1, 100_000),
)
def test_no_block_has_larger_chunks_than_meant(grids, channels, n_images):
    """Whatever grids the others have."""
    blocks = [BlockShape(grid=grid, n_channels=channels) for grid in grids]
    shape = TokenShape.of_blocks(blocks, n_registers=0, has_cls=True, dtype="float16")
    layout = plan_layout(shape, n_images=n_images)
    for array in planned_arrays(shape, layout, n_images=n_images):
        if array.tokens is not None and array.rows_per_chunk > 1:
            assert array.stored_chunk_bytes <= CHUNK_BYTES + CRC_BYTES


@given(shape=SHAPES, n_images=st.integers(1, 5_000), shard_bytes=st.sampled_from([1, 2**20, 2**30]))
def test_every_image_is_in_one_shard(shape, n_images, shard_bytes):
    layout = plan_layout(shape, n_images=n_images, shard_bytes=shard_bytes)
    *_, array = planned_arrays(shape, layout, n_images=n_images)
    assert array.n_files == layout.n_shards(n_images)
    counted = np.concatenate([array.file_rows(shard) for shard in range(array.n_files)])
    np.testing.assert_array_equal(counted, np.arange(n_images))


@pytest.mark.parametrize(
    ("n_images", "shards"), [(1, 1), (64, 1), (65, 2), (512, 8), (2_300, 9), (16_384, 8)]
)
def test_a_small_set_has_several_shards_of_whole_batches(n_images, shards):
    """While one is written, the next is computed; tokens depend on their batch of 64 images."""
    shape = TokenShape(n_blocks=12, grid=(4, 8), n_channels=384, n_registers=0, dtype="float16")
    layout = plan_layout(shape, n_images=n_images)
    assert layout.n_shards(n_images) == shards
    assert shards == 1 or layout.images_per_shard % 64 == 0


@pytest.mark.parametrize(("channels", "most_files"), [(384, 1_000), (768, 2_000)])
def test_few_files_and_bounded_shards(channels, most_files):
    """ViT-S and ViT-B with registers, 50,000 images."""
    shape = TokenShape(
        n_blocks=12, grid=(4, 8), n_channels=channels, n_registers=4, dtype="float16"
    )
    layout = plan_layout(shape, n_images=50_000)
    # Two shards are in memory at a time: one being computed, one being written.
    assert 2 * layout.images_per_shard * shape.image_bytes < 1.5e9
    arrays = planned_arrays(shape, layout, n_images=50_000)
    n_groups = 1 + 1 + shape.n_blocks
    assert n_groups + len(arrays) + sum(array.n_files for array in arrays) < most_files
