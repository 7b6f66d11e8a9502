"""The files of one array: their bytes, sizes, names and zarr.json, which zarr itself reads."""

import json

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from cache import CacheError
from cache.format.arrays import StoredArray
from cache.format.metadata import array_bytes, group_bytes


def an_array(n_rows: int, chunk: int, shard: int, dtype: str = "float16") -> StoredArray:
    return StoredArray(
        path="blocks/00/cls",
        shape=(n_rows, 3),
        dtype=dtype,
        dimensions=("image", "channel"),
        rows_per_chunk=chunk,
        rows_per_shard=shard,
    )


@given(
    n_rows=st.integers(1, 40),
    chunk=st.sampled_from([1, 2, 4]),
    per_shard=st.sampled_from([1, 2, 4]),
    dtype=st.sampled_from(["float16", "float32"]),
)
def test_zarr_reads_the_files_that_are_written_here(
    n_rows, chunk, per_shard, dtype, tmp_path_factory
):
    root = tmp_path_factory.mktemp("array")
    array = an_array(n_rows, chunk, chunk * per_shard, dtype)
    values = np.random.default_rng(n_rows).standard_normal(array.shape).astype(dtype)
    (root / "zarr.json").write_bytes(group_bytes())
    (root / array.path).mkdir(parents=True)
    (root / array.metadata_path).write_bytes(array_bytes(array))
    for file in range(array.n_files):
        path = root / array.file_path(file)
        path.parent.mkdir(parents=True)
        rows = array.file_rows(file)
        path.write_bytes(array.encode(file, values[rows.start : rows.stop]))
        assert path.stat().st_size == array.file_size(file)
        assert array.file_of(array.file_path(file)) == file
    read = zarr.open_array(root / array.path, mode="r")
    np.testing.assert_array_equal(read[:], values)
    np.testing.assert_array_equal(read[n_rows // 2 : n_rows // 2 + 1], values[n_rows // 2][None])
    assert read.metadata.dimension_names == ("image", "channel")


def test_zarr_writes_the_same_bytes(tmp_path):
    """The files are what zarr itself would have written."""
    array = an_array(21, 2, 8)
    values = np.random.default_rng(0).standard_normal(array.shape).astype("float16")
    written = zarr.create_array(
        tmp_path / "a",
        shape=array.shape,
        dtype=array.dtype,
        chunks=(2, 3),
        shards=(8, 3),
        compressors=[zarr.codecs.Crc32cCodec()],
        fill_value=0,
        dimension_names=array.dimensions,
        config={"write_empty_chunks": True},
    )
    written[:] = values
    document = json.loads((tmp_path / "a/zarr.json").read_bytes())
    assert document == array.document({})
    for file in range(array.n_files):
        rows = array.file_rows(file)
        content = (tmp_path / f"a/c/{file}/0").read_bytes()
        assert content == array.encode(file, values[rows.start : rows.stop])


@pytest.mark.parametrize(
    "path",
    [
        "blocks/00/cls/c/3/0",
        "blocks/00/cls/c/00/0",
        "blocks/00/cls/c/-1/0",
        "blocks/00/cls/c/0/0/0",
        "blocks/00/cls/c/0/1",
        "blocks/01/cls/c/0/0",
        "blocks/00/cls/c/0",
    ],
)
def test_paths_that_are_no_file_of_an_array(path):
    assert an_array(21, 2, 8).file_of(path) is None


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [10**15, 3]},
        {"shape": [21, 0]},
        {"shape": [21.0, 3]},
        {"shape": [-21, 3]},
        {"data_type": "float64"},
        {"data_type": "|O"},
        {"fill_value": 1.0},
        {"dimension_names": None},
        {"dimension_names": ["image"]},
        {"codecs": []},
        {"codecs": [{"name": "bytes", "configuration": {"endian": "big"}}, {"name": "crc32c"}]},
        {"chunk_key_encoding": {"name": "v2"}},
        {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2**40, 3]}}},
        {"storage_transformers": [{"name": "x"}]},
        {"surprise": 1},
    ],
)
def test_only_arrays_of_the_format_are_accepted(change):
    array = an_array(21, 2, 8)
    document = array.document({"anything": "tolerated"})
    assert StoredArray.from_document(array.path, document, where="x", format_version=1) == array
    if change == {"shape": [10**15, 3]}:
        # Such a claim is refused where it meets a real file's size.
        assert (
            StoredArray.from_document(
                array.path, document | change, where="x", format_version=1
            ).n_files
            > 10**14
        )
        return
    with pytest.raises(CacheError, match=r"x: blocks/00/cls/zarr.json does not describe an array"):
        StoredArray.from_document(array.path, document | change, where="x", format_version=1)
