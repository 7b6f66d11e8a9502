"""Metadata that claim more than any cache has: refused before memory is taken."""

import json
import os
import resource
import subprocess
import sys
import zipfile

import pytest
from support.faults import make_store

from cache import CacheError, Layout, TokenShape, open_cache, plan_copy, plan_layout, verify
from cache.format.metadata import (
    DOCUMENT_LIMIT,
    MARKS_LIMIT,
    array_bytes,
    parse,
    planned_arrays,
    read_array,
)

SHAPE = TokenShape(n_blocks=1, grid=(14, 14), n_channels=768, n_registers=0, dtype="float16")


def test_the_largest_documents_fit():
    """ImageNet-21k has 14.2 million images: 1.8 million chunks a block, of 2.4 MB each."""
    layout = plan_layout(SHAPE, n_images=14_200_000)
    patches = next(
        array for array in planned_arrays(SHAPE, layout, n_images=14_200_000) if array.tokens
    )
    assert 1e6 < patches.n_chunks < 3e6
    assert len(array_bytes(patches)) + 5.34 * patches.n_chunks < DOCUMENT_LIMIT


@pytest.mark.parametrize(("images", "chunk"), [(17_000_000, 64), (3_200_000, 1)])
def test_more_than_a_cache_holds_is_refused_when_planned(images, chunk):
    layout = Layout(images_per_shard=64, images_per_chunk={"patches": chunk, "cls": 64})
    with pytest.raises(CacheError, match="make chunks larger, or several caches"):
        planned_arrays(SHAPE, layout, n_images=images)


@pytest.mark.parametrize("content", [b" " * (DOCUMENT_LIMIT + 1), b"[" + b"{}," * MARKS_LIMIT])
def test_large_documents_are_not_parsed(content, monkeypatch):
    monkeypatch.setattr(json, "loads", pytest.fail)
    with pytest.raises(CacheError, match="is larger than any cache's"):
        parse(content, where="a.zarr/zarr.json")


def test_image_ids_beyond_any_cache_are_refused(tmp_path):
    store = make_store(tmp_path / "a.zarr", stop_after=1)
    document = json.loads((store / "image/zarr.json").read_text())
    rows = 17_000_000
    document["shape"] = document["chunk_grid"]["configuration"]["chunk_shape"] = [rows]
    (store / "image/zarr.json").write_text(json.dumps(document))
    with (store / "image/c/0").open("r+b") as file:
        file.truncate(8 * rows + 4)
    content = json.dumps(document).encode()
    with pytest.raises(CacheError, match="claims more images than any cache has"):
        read_array("image", content, where="a.zarr", finished=False, format_version=2)
    with pytest.raises(CacheError, match="claims more images than any cache has"):
        _ = open_cache(str(store)).image_ids
    assert any("claims more images" in str(fault) for fault in verify(str(store)).faults)


def test_a_large_document_in_a_packed_file_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr("zarr.json", b" " * 2 * DOCUMENT_LIMIT)
    with pytest.raises(CacheError, match="is larger than any cache's"):
        open_cache(str(tmp_path / "a.zip"))


def test_a_packed_file_of_too_many_members_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("cache.stores.zip.MEMBERS_LIMIT", 3)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        for number in range(4):
            packed.writestr(str(number), b"")
    with pytest.raises(CacheError, match="more files than any cache"):
        open_cache(str(tmp_path / "a.zip"))


def test_all_documents_together_are_bounded(tmp_path, monkeypatch):
    store = make_store(tmp_path / "a.zarr")
    monkeypatch.setattr("cache.stores.rooted.DOCUMENTS_LIMIT", 4000)
    with pytest.raises(CacheError, match="more than those of any cache"):
        plan_copy(open_cache(str(store)))


SPARSE = """
import sys
from cache import CacheError, open_cache, verify
def read(path):
    return open_cache(path).block(0).read("cls", [2])
for use in (read, lambda path: verify(path).faults):
    try:
        print(*map(str, use(sys.argv[1])))
    except CacheError as error:
        print(error)
"""


@pytest.mark.parametrize("name", ["zarr.json", "blocks/00/cls/zarr.json", "image/c/0"])
def test_sparse_files_of_5_gb_take_no_memory(name, tmp_path):
    store = make_store(tmp_path / "a.zarr")
    os.truncate(store / name, 5 * 10**9)

    def limited():
        resource.setrlimit(resource.RLIMIT_DATA, (2**30, 2**30))

    done = subprocess.run(
        [sys.executable, "-c", SPARSE, str(store)],
        capture_output=True,
        text=True,
        preexec_fn=limited,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 2, done.stderr[-2000:]
