"""Pulled caches: what is asked for and no more, checked, resumed, with their key."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from support.faults import IDS, content, make_store, open_writer, settings, token
from support.servers import nginx, s3

from cache import CacheError, Layout, TokenShape, open_cache, pack, plan_copy, pull, verify
from cache.format.metadata import document_paths

PATCHES = "blocks/01/patches/c"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("local") / "a.zarr")


@pytest.fixture(scope="module")
def web(tmp_path_factory, store):
    with nginx(tmp_path_factory.mktemp("web")) as server:
        shutil.copytree(store, server.files / "a.zarr")
        pack(plan_copy(open_cache(str(store))), server.files / "a.zarr.zip")
        yield server


def plan(source, **options):
    return plan_copy(open_cache(str(source)), **options)


@pytest.mark.parametrize("place", ["directory", "packed", "http", "packed http", "s3"])
def test_a_whole_copy_is_the_same_from_anywhere(place, store, web, tmp_path, monkeypatch):
    seen: list[int] = []

    def copied(source):
        whole = plan(source)
        assert pull(whole, tmp_path / "b.zarr", progress=seen.append) == whole.n_bytes
        assert sum(seen) == whole.n_bytes
        assert content(tmp_path / "b.zarr") == content(store)

    if place == "s3":
        with s3(monkeypatch) as bucket:
            bucket.upload(store, "a.zarr")
            copied("s3://lab/a.zarr")
        return
    copied(
        {
            "directory": store,
            "packed": web.files / "a.zarr.zip",
            "http": web.url("a.zarr", location="private", user="lab:s3cr3t@"),
            "packed http": web.url("a.zarr.zip"),
        }[place]
    )
    assert not list(tmp_path.glob("*partial"))


def test_one_block_and_kind_of_twelve(web, tmp_path):
    """The bytes that cross the network are about those asked for."""
    shape = TokenShape(n_blocks=12, grid=(4, 8), n_channels=16, n_registers=4, dtype="float16")
    layout = Layout(
        images_per_shard=64, images_per_chunk={"patches": 16, "cls": 64, "registers": 64}
    )
    ids = np.arange(300)
    big = make_tokens(web.files / "big.zarr", shape, layout, ids)
    size = sum(len(data) for data in content(big).values())
    web.requests()
    part = plan(web.url("big.zarr"), blocks=[3], kinds=["patches"])
    fetched = pull(part, tmp_path / "b3.zarr")
    sent = sum(request.bytes for request in web.requests())
    assert fetched == part.n_bytes < size / 12
    assert fetched < sent < 1.05 * fetched + 10_000
    partial = open_cache(str(tmp_path / "b3.zarr"))
    assert (partial.blocks, partial.kinds) == ([3], ["patches"])
    assert partial.complete and partial.key == open_cache(str(big)).key
    assert partial.provenance == open_cache(str(big)).provenance
    assert np.array_equal(
        partial.block(3).read("patches", ids), open_cache(str(big)).block(3).read("patches", ids)
    )
    with pytest.raises(CacheError, match=r"holds blocks \[3\] of 12, not 4: vitv1 cache pull"):
        partial.block(4)
    with pytest.raises(CacheError, match="holds patches but no cls"):
        partial.block(3).read("cls", ids)


def make_tokens(path, shape, layout, ids):
    named = settings(len(ids))
    named["backbone"]["n_blocks"] = shape.n_blocks
    rng = np.random.default_rng(0)
    with open_writer(path, settings=named, image_ids=ids, shape=shape, layout=layout) as writer:
        for shard in writer.missing_shards():
            n = len(writer.shard_ids(shard))
            writer.write_shard(
                shard,
                [
                    {k: rng.standard_normal((n, *shape.item(k))) for k in shape.kinds()}
                    for _ in range(shape.n_blocks)
                ],
            )
        writer.finish()
    return path


def test_a_part_is_a_valid_cache_in_every_respect(store, tmp_path):
    pull(plan(store, blocks=[-1], kinds=["cls", "patches"]), tmp_path / "p.zarr")
    assert not verify(str(tmp_path / "p.zarr")).faults
    cache = open_cache(str(tmp_path / "p.zarr"))
    assert (cache.blocks, cache.kinds) == ([1], ["patches", "cls"])
    contents = cache.store.attributes["contents"]
    assert set(contents["images_per_chunk"]) == {"patches", "cls"}
    held = set(content(tmp_path / "p.zarr"))
    assert {"zarr.json", *document_paths(contents)} <= held
    assert not any(path.startswith("blocks/00") or "registers" in path for path in held)
    # A part can be handed on: packed, and pulled from again.
    pack(plan(tmp_path / "p.zarr"), tmp_path / "p.zip")
    pull(plan(tmp_path / "p.zip", kinds=["cls"]), tmp_path / "q.zarr")
    q = open_cache(str(tmp_path / "q.zarr"))
    assert np.array_equal(q.block(1).read("cls", IDS), token(1, "cls", IDS))
    assert q.key == open_cache(str(store)).key


def test_what_is_not_there_cannot_be_pulled(store, tmp_path):
    with pytest.raises(CacheError, match="block 2 of 2"):
        plan(store, blocks=[2])
    pull(plan(store, blocks=[0], kinds=["cls"]), tmp_path / "p.zarr")
    with pytest.raises(CacheError, match=r"holds blocks \[0\] of 2, not 1"):
        plan(tmp_path / "p.zarr", blocks=[1])
    with pytest.raises(CacheError, match="holds cls but no patches"):
        plan(tmp_path / "p.zarr", kinds=["patches"])
    unfinished = make_store(tmp_path / "half.zarr", stop_after=1)
    with pytest.raises(CacheError, match="2 of 3 shards are missing"):
        plan(unfinished)


def test_again_does_nothing_and_nothing_is_overwritten(store, tmp_path):
    target = tmp_path / "b.zarr"
    pull(plan(store, blocks=[1]), target)
    before = {path: path.stat().st_mtime_ns for path in target.rglob("*")}
    assert pull(plan(store, blocks=[1], kinds=["cls"]), target) == 0
    with pytest.raises(CacheError, match=r"holds blocks \[1\] .* not all you ask for"):
        pull(plan(store), target)
    other = make_store(tmp_path / "c.zarr", settings=_other_settings())
    with pytest.raises(CacheError, match="another key"):
        pull(plan(other), target)
    assert {path: path.stat().st_mtime_ns for path in target.rglob("*")} == before
    (tmp_path / "thesis").mkdir()
    with pytest.raises(CacheError, match="is in the way"):
        pull(plan(store), tmp_path / "thesis")


def _other_settings():
    return settings(dtype="float16", precision="bfloat16")


def test_an_interrupted_pull_goes_on(store, web, tmp_path):
    """Files done are kept, a damaged one among them is not, blocks not asked for are gone."""
    whole, target = plan(web.url("a.zarr")), tmp_path / "b.zarr"
    stopped = _Stopping(after=1500)
    with pytest.raises(KeyboardInterrupt):
        pull(whole, target, threads=2, progress=stopped)
    partial = tmp_path / "b.zarr.vitv1-partial"
    done = sorted(p for p in partial.rglob("*") if p.is_file() and p.suffix != ".vitv1-part")
    assert done and not target.exists()
    damaged = max(done, key=lambda path: path.stat().st_size)
    damaged.write_bytes(damaged.read_bytes()[:-40] + bytes(40))
    (partial / "blocks/07").mkdir(parents=True)
    (partial / "blocks/07/zarr.json").write_text("x")
    kept = sum(path.stat().st_size for path in done) - damaged.stat().st_size
    web.requests()
    assert pull(plan(web.url("a.zarr")), target) == whole.n_bytes - kept
    sent = sum(r.bytes for r in web.requests() if "/c/" in r.path)
    assert sent < whole.n_bytes - kept + 600
    assert content(target) == content(store) and not partial.exists()


class _Stopping:
    """Progress that is interrupted, as by Ctrl-C."""

    def __init__(self, after: int) -> None:
        self.left = after
        self.lock = threading.Lock()

    def __call__(self, n_bytes: int) -> None:
        with self.lock:
            self.left -= n_bytes
            if self.left < 0:
                raise KeyboardInterrupt


def test_killed_and_pulled_again(store, web, tmp_path):
    target = tmp_path / "b.zarr"
    code = (
        "import sys, time; from cache import open_cache\n"
        "from cache.share.copy_plan import plan_copy\n"
        "from cache.share.pull import pull; from pathlib import Path\n"
        "slow = lambda n: time.sleep(0.05)\n"
        "pull(plan_copy(open_cache(sys.argv[1])), Path(sys.argv[2]), threads=1, progress=slow)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, web.url("a.zarr"), str(target)])
    until = time.monotonic() + 20
    while len(list(tmp_path.glob("b.zarr.vitv1-partial/blocks/00/*/c/*"))) < 4:
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.01)
    with pytest.raises(CacheError, match=f"process {process.pid} on"):
        pull(plan(store), target)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    fetched = pull(plan(web.url("a.zarr")), target)
    assert 0 < fetched < plan(store).n_bytes
    assert content(target) == content(store)


def test_damage_at_the_source_is_told_and_not_copied(store, tmp_path):
    bad = shutil.copytree(store, tmp_path / "bad.zarr")
    one, other = bad / PATCHES / "0/0/0/0", bad / PATCHES / "1/0/0/0"
    first = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(first)
    with pytest.raises(CacheError, match=r"block 1, patches, images .* belong elsewhere") as error:
        pull(plan(bad), tmp_path / "b.zarr")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "b.zarr").exists()
    # Once the source is mended, the pull goes on.
    other.write_bytes(one.read_bytes())
    one.write_bytes(first)
    assert 0 < pull(plan(bad), tmp_path / "b.zarr") < plan(store).n_bytes
    assert content(tmp_path / "b.zarr") == content(store)


@pytest.mark.parametrize("kind", ["cut off", "absent"])
def test_a_file_that_is_lost_at_the_source(kind, store, tmp_path):
    bad = shutil.copytree(store, tmp_path / "bad.zarr")
    path = bad / PATCHES / "2/0/0/0"
    whole = plan(bad)
    if kind == "absent":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:150])
    with pytest.raises(CacheError, match="block 1, patches, images"):
        pull(whole, tmp_path / "b.zarr")


def test_too_little_space_is_told_before_anything_is_fetched(store, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(CacheError, match="make room"):
        pull(plan(store), tmp_path / "b.zarr")
    assert not (tmp_path / "b.zarr.vitv1-partial").exists()


def test_pieces_smaller_than_files(store, tmp_path, monkeypatch):
    monkeypatch.setattr("cache.share.pull.PIECE", 250)
    pull(plan(store), tmp_path / "b.zarr", threads=3)
    assert content(tmp_path / "b.zarr") == content(store)
