"""One writer per store, whoever dies and wherever they run."""

import errno
import json
import os
import re
import socket
import subprocess
import sys

import pytest
from support.faults import open_writer

from cache import CacheError
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
