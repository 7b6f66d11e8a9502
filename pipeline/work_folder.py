"""Folders of work at hand, in a run's folder; those that a killed run left are removed.

A folder's name tells the host, the process and its start: only what is surely dead is touched.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

_NAME = re.compile(r"\.work-(?P<host>.+)-(?P<pid>\d+)-(?P<started>\d+)-\w+")

#: Seconds by which the system may tell the start of one process differently.
_ABOUT = 2

#: Beginnings of the names that joblib gives to what its processes share in memory.
_SHARED = ("joblib_memmapping_folder_{}_", "sem.loky-{}-")


@contextmanager
def work_folder(output: Path) -> Iterator[Path]:
    """A new folder for what the workers of this process leave to each other; gone at the end."""
    started = int(psutil.Process().create_time())
    prefix = f".work-{socket.gethostname()}-{os.getpid()}-{started}-"
    with tempfile.TemporaryDirectory(prefix=prefix, dir=output, ignore_cleanup_errors=True) as made:
        handle = os.open(made, os.O_RDONLY)
        try:
            # Some network disks lock no folders; then the name alone tells.
            with suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield Path(made)
        finally:
            os.close(handle)


def remove_left(output: Path) -> None:
    """Remove what killed runs of this user and this host left: work folders and shared memory."""
    for folder in output.glob(".work-*"):
        found = _NAME.fullmatch(folder.name)
        if found is None or found["host"] != socket.gethostname() or not _is_mine(folder):
            continue
        pid, started = int(found["pid"]), int(found["started"])
        if _runs(pid, started) or _is_locked(folder):
            continue
        # While the number is another process's, what bears it may be, too.
        if not psutil.pid_exists(pid):
            _remove_shared(pid)
        shutil.rmtree(folder, ignore_errors=True)


def _runs(pid: int, started: int) -> bool:
    try:
        process = psutil.Process(pid)
        return bool(
            process.status() != psutil.STATUS_ZOMBIE
            and abs(process.create_time() - started) <= _ABOUT
        )
    except psutil.NoSuchProcess:
        return False


def _is_locked(folder: Path) -> bool:
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(handle)
    return False


def _is_mine(path: Path) -> bool:
    """Whether a path is a file or a folder, rather than a link, of this user."""
    with suppress(OSError):
        found = path.lstat()
        return found.st_uid == os.getuid() and not stat.S_ISLNK(found.st_mode)
    return False


def _remove_shared(pid: int) -> None:
    for place in {Path("/dev/shm"), Path(tempfile.gettempdir())}:
        for name in _SHARED:
            for path in place.glob(f"{name.format(pid)}*"):
                if not _is_mine(path):
                    continue
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
