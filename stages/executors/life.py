"""Life signs of workers: they beat, end with the process that started them, and are watched."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

#: Seconds between two life signs of a worker, and between two looks at its parent.
BEAT = 2.0

#: Tells a person something, in a line.
Note = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Patience:
    """Seconds without a sign of life after which something is done about a worker.

    Parameters
    ----------
    look : float
        Between two looks.
    named : float
        Until it is named to the person.
    replaced : float
        Until it is ended, so that another one computes its task.
    """

    look: float = 5.0
    named: float = 60.0
    replaced: float = 300.0


PATIENCE = Patience()


def attend(parent: int, signs: Path | None = None) -> None:
    """Have a thread of this worker end it once its parent is gone, and touch a file until then.

    A computation may take as long as it likes: its libraries let other threads run.

    Parameters
    ----------
    parent : int
        Process that started this one.
    signs : path, optional
        Folder of the file, which bears this process's number; from now on this one.
    """
    threads = (t for t in threading.enumerate() if isinstance(t, _Attendant))
    attendant = next(threads, None)
    if attendant is None:
        attendant = _Attendant(parent)
        attendant.start()
    if signs is not None:
        attendant.sign = signs / str(os.getpid())
        attendant.beat()


class _Attendant(threading.Thread):
    def __init__(self, parent: int) -> None:
        super().__init__(name="attendant", daemon=True)
        self.parent = parent
        self.sign: Path | None = None

    def run(self) -> None:
        # The system's own signal (PR_SET_PDEATHSIG) comes when the thread that started a process
        # ends, and any thread of the parent may have started this one.
        while os.getppid() == self.parent:
            self.beat()
            time.sleep(BEAT)
        os._exit(1)

    def beat(self) -> None:
        # The folder of an earlier map is gone, for example.
        with suppress(OSError):
            if self.sign is not None:
                self.sign.touch()


@contextmanager
def watched(
    signs: Callable[[], Mapping[str, object]],
    patience: Patience,
    note: Note,
    replace: Callable[[str], object] | None,
) -> Iterator[None]:
    """Name workers that do not answer, and replace them, while something else waits for them.

    Parameters
    ----------
    signs : callable
        The last sign of each worker by its name: any value that differs from the one before.
    replace : callable, optional
        Ends a worker, by its name; None where others do.
    """
    over = threading.Event()
    last: dict[str, object] = {}
    silent: dict[str, float] = {}

    def look() -> None:
        found = signs()
        for name, sign in found.items():
            # Looks are counted rather than time: whoever was suspended together heard nothing.
            answers = name not in last or last[name] != sign
            before = silent.get(name, 0.0)
            now = silent[name] = 0.0 if answers else before + patience.look
            if before < patience.named <= now:
                note(_told(name, patience, replace is not None))
            if now >= patience.replaced and replace is not None:
                replace(name)
        last.clear()
        last.update(found)

    def watch() -> None:
        while not over.wait(patience.look):
            try:
                look()
            except Exception as error:
                # Such as a scheduler that is busy: it is asked again.
                logging.getLogger(__name__).info("workers could not be watched: %s", error)

    thread = threading.Thread(target=watch, name="watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        # A scheduler that does not answer keeps nobody.
        thread.join(patience.look)


def _told(name: str, patience: Patience, is_replaced: bool) -> str:
    then = (
        f"after {patience.replaced:g} s it is replaced"
        if is_replaced
        else "its scheduler replaces it after its worker-ttl"
    )
    return (
        f"worker {name} has not answered for {patience.named:g} s: {then}, and its task is "
        "computed again"
    )


def signs_in(folder: Path) -> dict[str, object]:
    """The last signs of this process's own workers, by their numbers."""
    found: dict[str, object] = {}
    for path in folder.iterdir():
        if _own_worker(path.name) is not None:
            found[path.name] = path.stat().st_mtime_ns
        else:
            path.unlink(missing_ok=True)
    return found


def end_own_worker(name: str) -> None:
    """Kill a worker that this process started."""
    if (process := _own_worker(name)) is not None:
        with suppress(psutil.Error):
            process.kill()


def _own_worker(name: str) -> psutil.Process | None:
    """A living child of this process by its number, which may be somebody else's by now."""
    with suppress(psutil.Error):
        process = psutil.Process(int(name))
        if process.ppid() == os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
            return process
    return None
