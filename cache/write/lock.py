"""The lock of a store's one writer: an operating-system lock on a file beside the store."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

from cache.errors import CacheError
from cache.write.temporaries import real_path

#: Seconds within which a writer has put its name into the file that it locked.
NAMING = 1.0

#: Beginning of what a writer puts into the file; a power cut may leave less of it, or zeros.
MARK = b'{"host": '


@dataclass(frozen=True)
class Holder:
    """Who writes a store."""

    host: str
    pid: int
    since: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"

    @property
    def is_here(self) -> bool:
        """Whether it runs, or ran, on this host."""
        return self.host == socket.gethostname()


@contextmanager
def writer_lock(store: Path) -> Iterator[None]:
    """Hold `<store>.lock` while writing; the system frees it however the process ends.

    On some shared disks one host does not see another's lock. So the file also names its holder,
    and a name from another host stands until its writer, or a person, takes it away.

    Raises
    ------
    CacheError
        Another process holds it; the message says which, on what host and since when. Or what is
        in its place is no lock of ours.
    """
    store = real_path(store)
    path = store.with_name(store.name + ".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise _foreign(path)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666)
    with os.fdopen(handle, "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _awaited_holder(path)
            raise CacheError(
                f"{store} is being written by {holder or 'another process'}: wait for it or stop "
                "it, then repeat"
            ) from None
        except OSError as error:
            raise CacheError(
                f"{path} cannot be locked ({error.strerror}): this disk has no file locks, so two "
                "writers could not be kept apart; name a [cache] path on another disk"
            ) from None
        left = path.read_bytes().strip(b"\0")
        if not left.startswith(MARK) and not MARK.startswith(left):
            raise _foreign(path)
        holder = _holder(path)
        if holder is not None and not holder.is_here:
            raise CacheError(
                f"{store} is being written by {holder}, another host: wait for it or stop it; if "
                f"it surely runs no more, delete {path} and repeat"
            )
        now = datetime.now(UTC).isoformat(timespec="seconds")
        here = Holder(host=socket.gethostname(), pid=os.getpid(), since=now)
        file.truncate(0)
        json.dump(asdict(here), file)
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def _foreign(path: Path) -> CacheError:
    return CacheError(f"{path} is no lock of vitv1, and none can be put there: move it elsewhere")


def _awaited_holder(path: Path) -> Holder | None:
    """The holder, once it has replaced the name of the dead one before it."""
    until = time.monotonic() + NAMING
    # Of one on another host nobody can tell whether it still runs.
    while not (holder := _holder(path)) or (holder.is_here and not psutil.pid_exists(holder.pid)):
        if time.monotonic() > until:
            return None
        time.sleep(0.01)
    return holder


def _holder(path: Path) -> Holder | None:
    try:
        return Holder(**json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None
