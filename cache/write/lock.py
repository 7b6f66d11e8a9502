"""The lock of one writer, of a store or a folder: an operating-system lock on a file and on it."""

from __future__ import annotations

import errno
import fcntl
import glob
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

import psutil

from cache.errors import CacheError
from cache.write.atomic import make_folder
from cache.write.temporaries import real_path

#: Seconds within which a writer has put its name into the file that it locked.
NAMING = 1.0

#: Beginning of what a writer puts into the file; a power cut may leave less of it, or zeros.
MARK = b'{"host": '

#: Errors of a folder that others may write to.
_NOT_OURS = (errno.EACCES, errno.EPERM, errno.EROFS)


@dataclass(frozen=True)
class Holder:
    """Who writes."""

    host: str
    pid: int
    since: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"

    @property
    def is_here(self) -> bool:
        """Whether it runs, or ran, on this host."""
        return self.host == socket.gethostname()


@dataclass(frozen=True)
class WriterLock:
    """What a writer holds besides its lock file: who deletes that lets no other process in.

    Parameters
    ----------
    refusal : CacheError
        Told to whoever comes second.
    stack : ExitStack
        Ends when the lock does.
    """

    refusal: CacheError
    stack: ExitStack
    _inodes: set[tuple[int, int]] = field(default_factory=set)

    def hold(self, path: Path) -> None:
        """Hold a folder or a file of one's own, too, whatever it will be called.

        Raises
        ------
        CacheError
            Another process holds it.
        """
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            # A link, or gone again: nothing that a writer holds.
            return
        self.stack.callback(os.close, handle)
        there = os.fstat(handle)
        if (inode := (there.st_dev, there.st_ino)) in self._inodes:
            return
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise self.refusal from None
        except OSError:
            # Network disks lock only what is open for writing: there the lock file must do.
            return
        self._inodes.add(inode)


@contextmanager
def writer_lock(store: Path) -> Iterator[WriterLock]:
    """Hold `<store>.lock`, the store and its temporaries while writing.

    The system frees them however the process ends. On some shared disks one host does not see
    another's lock. So the file also names its holder, and a name from another host stands until
    its writer, or a person, takes it away.

    Raises
    ------
    CacheError
        Another process holds it; the message says which, on what host and since when. Or what is
        in its place is no lock of ours.
    """
    store = real_path(store)
    path = store.with_name(store.name + ".lock")
    with _locked(store, path, setting="[cache] path") as lock:
        for each in (store, *store.parent.glob(f"{glob.escape(store.name)}.vitv1-*")):
            lock.hold(each)
        yield lock


@contextmanager
def folder_lock(folder: Path, *, setting: str, instead: str) -> Iterator[None]:
    """Hold a folder, and `.lock` in it, while writing there.

    Afterwards the file is gone, and so is a new folder that stayed empty. A folder that only others
    may write to is not held.

    Parameters
    ----------
    setting : str
        What names the folder.
    instead : str
        What may be done at the same time, for the message.

    Raises
    ------
    CacheError
        As `writer_lock`.
    """
    real = real_path(folder)
    path = real / ".lock"
    made = [each for each in (real, *real.parents) if not each.exists()]
    with ExitStack() as stack:
        try:
            lock = stack.enter_context(_locked(folder, path, setting=setting, instead=instead))
        except (FileExistsError, NotADirectoryError):
            raise CacheError(f"{folder} is no folder: name another {setting}") from None
        except OSError as error:
            if error.errno not in _NOT_OURS:
                raise CacheError(
                    f"{folder} cannot be made ({error.strerror}): name another {setting}"
                ) from None
            lock = WriterLock(_held(folder, None, instead), stack)
        if os.access(real, os.W_OK):
            lock.hold(real)
        try:
            yield
        finally:
            holder = _holder(path)
            with suppress(OSError):
                if holder is not None and holder.is_here and holder.pid == os.getpid():
                    path.unlink()
                for each in made:
                    each.rmdir()


@contextmanager
def _locked(what: Path, path: Path, *, setting: str, instead: str = "") -> Iterator[WriterLock]:
    """Hold a lock file with our name in it."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise _foreign(path)
    with ExitStack() as stack:
        try:
            file = stack.enter_context(_open_locked(path, setting))
        except BlockingIOError:
            raise _held(what, _awaited_holder(path), instead) from None
        left = path.read_bytes().strip(b"\0")
        if not left.startswith(MARK) and not MARK.startswith(left):
            raise _foreign(path)
        holder = _holder(path)
        if holder is not None and not holder.is_here:
            raise CacheError(
                f"{what} is being written by {holder}, another host: wait for it or stop it; if "
                f"it surely runs no more, delete {path} and repeat"
            )
        now = datetime.now(UTC).isoformat(timespec="seconds")
        here = Holder(host=socket.gethostname(), pid=os.getpid(), since=now)
        file.truncate(0)
        stack.callback(file.truncate, 0)
        json.dump(asdict(here), file)
        file.flush()
        yield WriterLock(_held(what, None, instead), stack)


def _open_locked(path: Path, setting: str) -> TextIO:
    """The lock file that the path names, locked."""
    while True:
        make_folder(path.parent)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666)
        file = os.fdopen(handle, "r+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Deleted in between, it keeps nobody out.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), path.stat()):
                    return file
        except BlockingIOError:
            file.close()
            raise
        except OSError as error:
            file.close()
            raise CacheError(
                f"{path} cannot be locked ({error.strerror}): this disk has no file locks, so two "
                f"writers could not be kept apart; name a {setting} on another disk"
            ) from None
        file.close()


def _held(what: Path, holder: Holder | None, instead: str) -> CacheError:
    remedy = f"wait for it or stop it, then repeat{instead and f'; {instead}'}"
    return CacheError(f"{what} is being written by {holder or 'another process'}: {remedy}")


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
