"""One writer per store, whoever dies and wherever they run."""

import errno
import fcntl
import json
import os
import re
import socket
import subprocess
import sys
import threading

import pytest
from support.faults import make_store, open_writer, settings

from cache import CacheError, folder_lock, open_cache, pack, plan_copy, pull
from cache.write.lock import writer_lock


def test_a_second_writer_is_refused_at_once_and_told_who_writes(tmp_path):
    with open_writer(tmp_path / "c.zarr"):
        told = (
            rf"c\.zarr is being written by process {os.getpid()} on {socket.gethostname()} since "
            r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00: wait for it or stop it"
        )
        with pytest.raises(CacheError, match=told), open_writer(tmp_path / "c.zarr"):
            pass
    with open_writer(tmp_path / "c.zarr") as writer:
        assert writer.missing_shards() == [0, 1, 2]


HOLD = """
import sys, time
from pathlib import Path
from cache.write.lock import writer_lock
with writer_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_dead_process_holds_nothing(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path / "c.zarr"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    told = f"written by process {process.pid} on {re.escape(socket.gethostname())} since"
    with pytest.raises(CacheError, match=told), writer_lock(tmp_path / "c.zarr"):
        pass
    process.kill()
    process.wait()
    assert json.loads((tmp_path / "c.zarr.lock").read_text())["pid"] == process.pid
    with writer_lock(tmp_path / "c.zarr"):
        assert json.loads((tmp_path / "c.zarr.lock").read_text())["pid"] == os.getpid()


def test_a_writer_on_another_host_stands_until_a_person_breaks_it(tmp_path):
    lock = tmp_path / "c.zarr.lock"
    lock.write_text('{"host": "node17", "pid": 4, "since": "2026-01-02T03:04:05+00:00"}')
    told = (
        r"process 4 on node17 since 2026-01-02T03:04:05\+00:00, another host: wait for it or stop "
        rf"it; if it surely runs no more, delete {re.escape(str(lock))} and repeat"
    )
    with pytest.raises(CacheError, match=told), writer_lock(tmp_path / "c.zarr"):
        pass
    lock.unlink()
    with writer_lock(tmp_path / "c.zarr"):
        pass


@pytest.mark.parametrize("left", ["", "{", '{"host": 3}', "\x00\x00"])
def test_a_lock_file_that_names_nobody_is_free(tmp_path, left):
    (tmp_path / "c.zarr.lock").write_text(left)
    with writer_lock(tmp_path / "c.zarr"):
        pass


def test_a_disk_without_locks_is_refused(tmp_path, monkeypatch):
    def refuse(file, how):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr("cache.write.lock.fcntl.flock", refuse)
    with (
        pytest.raises(CacheError, match=r"cannot be locked \(Operation not supported\)"),
        writer_lock(tmp_path / "c.zarr"),
    ):
        pass


# Locks whose file is deleted


OTHER = settings(dtype="float32")


def forget(store):
    """What a person does who takes a lock for a leftover."""
    store.with_name(f"{store.name}.lock").unlink()


@pytest.mark.parametrize("before", [None, "begun", "complete", "replaced"])
def test_a_deleted_lock_file_lets_no_second_writer_in(tmp_path, before):
    store = tmp_path / "c.zarr"
    if before:
        make_store(store, stop_after=1 if before == "begun" else None)
    options = {"settings": OTHER, "replace": True} if before == "replaced" else {}
    with open_writer(store, **options):
        forget(store)
        for number in range(2):
            told = r"c\.zarr is being written by another process: wait for it or stop it"
            with pytest.raises(CacheError, match=told), open_writer(store, replace=True):
                pass
            if number == 0:
                forget(store)
    with open_writer(store, **options) as writer:
        assert bool(writer.missing_shards()) != (before == "complete")


@pytest.mark.parametrize("what", ["pull", "pack"])
def test_nor_a_second_copy(tmp_path, what):
    source = open_cache(str(make_store(tmp_path / "a.zarr")))
    name = tmp_path / {"pull": "b.zarr", "pack": "b.zarr.zip"}[what]
    copy = {"pull": pull, "pack": pack}[what]
    refused, one = [], threading.Lock()

    def second(_):
        with one:
            if refused:
                return
            forget(name)
            with pytest.raises(CacheError, match="is being written by another process") as caught:
                copy(plan_copy(source), name)
            refused.append(caught.value)

    copy(plan_copy(source), name, progress=second)
    assert refused and open_cache(str(name)).complete


def test_a_lock_on_a_deleted_file_is_none(tmp_path, monkeypatch):
    """Deleted between the opening and the locking, as others do that take it for a leftover."""
    really, path = fcntl.flock, tmp_path / "c.zarr.lock"

    def delete_first(file, how):
        monkeypatch.undo()
        path.unlink()
        really(file, how)

    monkeypatch.setattr("cache.write.lock.fcntl.flock", delete_first)
    with (
        writer_lock(tmp_path / "c.zarr"),
        pytest.raises(CacheError, match=f"by process {os.getpid()} on"),
        writer_lock(tmp_path / "c.zarr"),
    ):
        pass


def test_disks_that_lock_no_folders_have_the_file(tmp_path, monkeypatch):
    """As NFS does, which locks what is open for writing."""
    really = fcntl.flock

    def refuse(file, how):
        if fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        really(file, how)

    monkeypatch.setattr("cache.write.lock.fcntl.flock", refuse)
    make_store(tmp_path / "c.zarr")
    with (
        writer_lock(tmp_path / "c.zarr"),
        pytest.raises(CacheError, match=f"by process {os.getpid()} on"),
        writer_lock(tmp_path / "c.zarr"),
    ):
        pass


# Folders


def held(folder):
    return folder_lock(folder, setting="run.output", instead="or take another folder")


def test_a_folder_is_held_through_links_and_without_its_lock_file(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    told = rf"is being written by process {os.getpid()} on .*, then repeat; or take another folder$"
    with held(tmp_path / "run"):
        with pytest.raises(CacheError, match=told), held(tmp_path / "disk"):
            pass
        (tmp_path / "disk/.lock").unlink()
        with (
            pytest.raises(CacheError, match="is being written by another process"),
            held(tmp_path / "disk"),
        ):
            pass
        (tmp_path / "disk/file").touch()
    with held(tmp_path / "disk"):
        assert json.loads((tmp_path / "disk/.lock").read_text())["pid"] == os.getpid()
    assert [p.name for p in (tmp_path / "disk").iterdir()] == ["file"]


def test_a_folder_that_stays_empty_is_gone_and_no_other(tmp_path):
    (tmp_path / "there").mkdir()
    for name in ("there", "new/deep", "used/deep"):
        with held(tmp_path / name):
            if name.startswith("used"):
                (tmp_path / name / "file").touch()
    assert {p.name for p in tmp_path.iterdir()} == {"there", "used"}


def test_a_foreign_lock_in_a_folder_stays(tmp_path):
    (tmp_path / ".lock").write_text("mine")
    with pytest.raises(CacheError, match=r"\.lock is no lock of vitv1"), held(tmp_path):
        pass
    assert (tmp_path / ".lock").read_text() == "mine"


def test_a_file_in_the_place_of_a_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    for name in ("file", "file/deep"):
        with pytest.raises(CacheError, match=r"is no folder: name another run\.output"):
            held(tmp_path / name).__enter__()
    assert (tmp_path / "file").read_text() == "mine"


def test_a_pipe_under_our_name_does_not_stop_a_writer(tmp_path):
    os.mkfifo(tmp_path / "c.zarr.vitv1-part-1")
    with writer_lock(tmp_path / "c.zarr"):
        pass
