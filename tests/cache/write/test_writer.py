"""Writing a cache: what is durable when, resuming, refusing, one writer at a time."""

import errno
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from support.faults import (
    IDS,
    content,
    make_store,
    open_writer,
    settings,
    shard_tokens,
    token,
    write_all,
)

from cache import CacheError, open_cache, verify
from cache.write import atomic


class Trace:
    """Every sync, rename and new directory, in order, with paths relative to the store."""

    def __init__(self, monkeypatch, root: Path) -> None:
        self.events: list[tuple[str, str]] = []
        self._root = root
        sync, replace = atomic._sync, Path.replace

        def traced_sync(path):
            self._note("sync", path)
            sync(path)

        def traced_replace(path, target):
            self._note("place", target)
            return replace(path, target)

        monkeypatch.setattr(atomic, "_sync", traced_sync)
        monkeypatch.setattr(Path, "replace", traced_replace)

    def _note(self, what: str, path: Path) -> None:
        if Path(path).is_relative_to(self._root):
            self.events.append((what, str(Path(path).relative_to(self._root))))

    def when(self, what: str, path: str) -> list[int]:
        return [n for n, event in enumerate(self.events) if event == (what, path)]


def test_progress_follows_the_shard_onto_the_disk(tmp_path, monkeypatch):
    store = tmp_path / "c.zarr"
    with open_writer(store) as writer:
        trace = Trace(monkeypatch, store)
        writer.write_shard(1, shard_tokens(writer.shard_ids(1)))
        (claimed,) = trace.when("place", "progress/c/0")
        for block in ("00", "01"):
            for kind, path in [("patches", "1/0/0/0"), ("cls", "1/0"), ("registers", "1/0/0")]:
                file = Path(f"blocks/{block}/{kind}/c/{path}")
                (placed,) = trace.when("place", str(file))
                (synced,) = trace.when("sync", str(file))
                assert placed < synced < claimed
                for folder in [p for p in file.parents if len(p.parts) > 3]:
                    (named,) = trace.when("sync", str(folder))
                    assert synced < named < claimed
        # And the claim itself is made durable, its name too, before anything else is done.
        (file,) = trace.when("sync", "progress/c/0")
        assert claimed < file < trace.when("sync", "progress/c")[0]


def test_the_root_is_the_last_thing_written(tmp_path, monkeypatch):
    store = tmp_path / "c.zarr"
    with open_writer(store) as writer:
        write_all(writer, stop_after=3)
        trace = Trace(monkeypatch, store)
        writer.finish()
        (root,) = trace.when("place", "zarr.json")
        others = [path for path in content(store) if path.endswith("/zarr.json")]
        assert len(others) == 11
        for path in others:
            (placed,), (synced,) = trace.when("place", path), trace.when("sync", path)
            assert placed < synced < root
            assert any(synced < n < root for n in trace.when("sync", str(Path(path).parent)))
        assert trace.when("sync", "zarr.json")[0] > root and trace.when("sync", ".")[-1] > root


def test_nothing_but_the_lock_lies_beside_a_finished_store(tmp_path):
    make_store(tmp_path / "c.zarr")
    assert {p.name for p in tmp_path.iterdir()} == {"c.zarr", "c.zarr.lock"}
    assert (tmp_path / "c.zarr.lock").read_bytes() == b""


def test_leftovers_of_a_killed_writer_go(tmp_path):
    make_store(tmp_path / "c.zarr", stop_after=1)
    (tmp_path / "c.zarr.vitv1-part").write_bytes(b"half a shard")
    (tmp_path / "c.zarr.vitv1-part-node17-4").write_bytes(b"half a shard")
    (tmp_path / "c.zarr.vitv1-new").mkdir()
    shutil.copytree(tmp_path / "c.zarr", tmp_path / "c.zarr.vitv1-old")
    make_store(tmp_path / "c.zarr")
    left = {p.name for p in tmp_path.iterdir()}
    assert left == {"c.zarr", "c.zarr.lock"}
    assert not verify(tmp_path / "c.zarr").faults


def test_a_resumed_store_is_the_uninterrupted_one(tmp_path):
    whole = make_store(tmp_path / "whole.zarr")
    for stop_after in (0, 1, 2):
        make_store(tmp_path / "c.zarr", stop_after=stop_after)
        with open_writer(tmp_path / "c.zarr") as writer:
            assert writer.missing_shards() == list(range(stop_after, 3))
            write_all(writer)
        assert content(tmp_path / "c.zarr") == content(whole)
        shutil.rmtree(tmp_path / "c.zarr")


@pytest.mark.parametrize("loss", ["absent", "cut off"])
def test_a_claimed_shard_that_is_not_there_is_written_again(tmp_path, loss):
    store = make_store(tmp_path / "c.zarr", stop_after=2)
    victim = store / "blocks/01/registers/c/1/0/0"
    if loss == "absent":
        victim.unlink()
    else:
        victim.write_bytes(victim.read_bytes()[:-1])
    with open_writer(store) as writer:
        assert writer.missing_shards() == [1, 2]
        assert open_cache(store).shards_done.tolist() == [True, False, False]
        write_all(writer)
    assert not verify(store).faults


def test_finishing_needs_every_shard(tmp_path):
    with (
        open_writer(tmp_path / "c.zarr") as writer,
        pytest.raises(RuntimeError, match=r"shards \[0, 1, 2\] are not written"),
    ):
        writer.finish()


def test_a_shard_needs_every_array_in_full(tmp_path):
    with open_writer(tmp_path / "c.zarr") as writer:
        ids = writer.shard_ids(0)
        with pytest.raises(ValueError, match="every array of every block"):
            writer.write_shard(0, shard_tokens(ids)[:1])
        without = shard_tokens(ids)
        del without[1]["registers"]
        with pytest.raises(ValueError, match="every array of every block"):
            writer.write_shard(0, without)
        with pytest.raises(ValueError, match=r"values of \(7, 2, 3, 4\), not \(8, 2, 3, 4\)"):
            writer.write_shard(0, shard_tokens(ids[:7]))
        assert writer.missing_shards() == [0, 1, 2]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EIO])
def test_only_a_disk_without_syncing_is_forgiven(tmp_path, monkeypatch, number):
    def refuse(handle):
        raise OSError(number, "sync")

    monkeypatch.setattr(atomic.os, "fsync", refuse)
    (tmp_path / "file").write_text("x")
    if number == errno.EIO:
        with pytest.raises(OSError, match="sync"):
            atomic.make_durable([tmp_path / "file"], below=tmp_path)
    else:
        atomic.make_durable([tmp_path / "file"], below=tmp_path)


def test_another_key_is_refused_then_replaced_by_name(tmp_path):
    store = make_store(tmp_path / "c.zarr")
    before = content(store)
    other = settings(dtype="float16", precision="bfloat16")
    with (
        pytest.raises(CacheError, match=r'precision: "bfloat16" here, nothing there.*--replace'),
        open_writer(store, settings=other),
    ):
        pass
    assert content(store) == before
    with open_writer(store, settings=other, replace=True) as writer:
        assert writer.missing_shards() == [0, 1, 2]
        assert {p.name for p in tmp_path.iterdir()} == {"c.zarr", "c.zarr.lock"}


@pytest.mark.parametrize("what", ["file", "directory", "another zarr store"])
def test_what_is_no_cache_is_never_overwritten(tmp_path, what):
    path = tmp_path / "c.zarr"
    if what == "file":
        path.write_text("precious")
    else:
        path.mkdir()
        (path / "zarr.json").write_text('{"attributes": {}, "node_type": "group"}')
        if what == "directory":
            (path / "zarr.json").rename(path / "notes.txt")
    before = content(tmp_path)
    for replace in (False, True):
        with (
            pytest.raises(CacheError, match="nothing was overwritten"),
            open_writer(path, replace=replace),
        ):
            pass
    assert {name: data for name, data in content(tmp_path).items() if "lock" not in name} == before


def test_a_full_disk_is_an_error_and_the_store_resumes(tmp_path, monkeypatch):
    """The disk fills up in the middle of a shard's files."""
    store = tmp_path / "c.zarr"
    free = 9
    replaced = atomic.replaced

    @contextmanager
    def limited(path, *, temporary):
        nonlocal free
        free -= 1
        with replaced(path, temporary=temporary) as file:
            if free < 0:
                file.write(b"begun")
                raise OSError(errno.ENOSPC, "No space left on device")
            yield file

    with open_writer(store) as writer, monkeypatch.context() as patch:
        patch.setattr("cache.write.atomic.replaced", limited)
        with pytest.raises(OSError, match="No space left"):
            write_all(writer)
    assert open_cache(store).shards_done.tolist() == [True, False, False]
    with open_writer(store) as writer:
        assert writer.missing_shards() == [1, 2]
        write_all(writer)
    assert not verify(store).faults


def test_a_failed_write_leaves_no_temporary(tmp_path, monkeypatch):
    def refuse(path, target):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "replace", refuse)
    for own in (None, tmp_path / "a.part"):
        with (
            pytest.raises(OSError, match="Input/output"),
            atomic.replaced(tmp_path / "a", temporary=own) as file,
        ):
            file.write(b"content")
    with pytest.raises(OSError, match="Input/output"):
        atomic.atomic_write(tmp_path / "a", b"content")
    assert not list(tmp_path.iterdir())


def test_a_file_is_on_the_disk_before_it_gets_its_name_and_its_name_after(tmp_path, monkeypatch):
    trace = Trace(monkeypatch, tmp_path)
    atomic.atomic_write(tmp_path / "new/a", b"content")
    own = f"new/.a.{os.getpid()}.new"
    assert trace.events == [("sync", "."), ("sync", own), ("place", "new/a"), ("sync", "new")]
    assert content(tmp_path) == {"new/a": b"content"}


def test_a_disk_that_went_away_is_not_written_to(tmp_path):
    """An unmounted directory is empty, or gone; a new store must not grow there."""
    store = tmp_path / "disk/c.zarr"
    with open_writer(store) as writer:
        assert len(writer.shard_ids(0)) == 8
        (tmp_path / "disk").rename(tmp_path / "away")
        (tmp_path / "disk").mkdir()
        with pytest.raises(FileNotFoundError, match="vanished while it was written"):
            write_all(writer)
    assert not list((tmp_path / "disk").iterdir())
    (tmp_path / "disk").rmdir()
    (tmp_path / "away").rename(tmp_path / "disk")
    make_store(store)
    np.testing.assert_array_equal(open_cache(store).block(0).read("cls", IDS), token(0, "cls", IDS))
