"""Room on disks: told before, and named after."""

import errno
import shutil
from collections import namedtuple

import pytest

from cache import CacheError, atomic_write, require_space
from cache.write.space import disk_of, naming

Usage = namedtuple("Usage", "total used free")


def test_what_has_no_room_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**10, 0, 10**9))
    place = tmp_path / "not" / "there" / "c.zarr"
    require_space(10**9, place)
    with pytest.raises(CacheError, match=r"needs 1\.50 GB and its disk has 1\.00 GB free") as error:
        require_space(15 * 10**8, place, instead="stop")
    assert str(error.value).endswith("make room, or stop")
    assert disk_of(place) == disk_of(tmp_path)


def test_a_place_that_cannot_be_written_to_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, _mode: path != tmp_path)
    with pytest.raises(CacheError, match="cannot be written to: make its folder writable, or stop"):
        require_space(0, tmp_path / "runs" / "x", instead="stop")


def test_a_full_disk_says_which_file_could_not_be_written(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=r"results\.csv"), naming(tmp_path / "results.csv"):
        full()
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match=r"summary\.csv"):
        atomic_write(tmp_path / "summary.csv", b"x")
    assert list(tmp_path.iterdir()) == []
