"""Reports of tasks while they are computed: from the code at work, in any process, to who waits.

Code at work calls `report`, which logs. Where reports go is decided by who computes the task: in
this process straight to the stage's progress, in a worker to a file in a folder that all see.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from stages.executors.executor import Executor
from stages.stage import Progress

T = TypeVar("T")
R = TypeVar("R")

#: Seconds between two looks at what workers report.
LOOK = 2.0

#: Seconds between two reports of parts, which come with every batch.
PART = 1.0

_log = logging.getLogger(__name__)

#: Is told which share of a task is done, between 0 and 1, and a line about it, which may be empty.
Tell = Callable[[float, str], None]


def report(done: float, of: float, text: str) -> None:
    """Say how much of the task at hand is done, such as 3 of 100 epochs, and a line about it."""
    _log.debug(text, extra={"done": done, "of": of})


def report_part(part: float) -> None:
    """Say which part is done of the next epoch, or whatever `report` counts, between 0 and 1."""
    _log.debug("", extra={"part": part})


@contextmanager
def reporting(tell: Tell) -> Iterator[None]:
    """Have reports of this process told inside."""
    handler, level = _Reports(tell), _log.level
    _log.addHandler(handler)
    _log.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        _log.setLevel(level)
        _log.removeHandler(handler)


class _Reports(logging.Handler):
    def __init__(self, tell: Tell) -> None:
        super().__init__()
        self.tell = tell
        self.done, self.of, self.told = 0.0, 0.0, 0.0

    def emit(self, record: logging.LogRecord) -> None:
        part = getattr(record, "part", None)
        if part is None:
            self.done, self.of = (float(getattr(record, name)) for name in ("done", "of"))
            part = 0.0
        elif not self.of or record.created < self.told + PART:
            return
        self.told = record.created
        self.tell(min(1.0, (self.done + part) / self.of), record.getMessage())


def map_reporting(
    executor: Executor,
    function: Callable[[T], R],
    tasks: Sequence[T],
    *,
    name: Callable[[T], str],
    label: Callable[[T], str],
    sizes: Sequence[float],
    folder: Path,
    progress: Progress,
    device: str = "cpu",
) -> Iterator[R]:
    """`executor.map` for tasks that report: progress grows while each of them is computed.

    Parameters
    ----------
    name : callable
        Name of a task, no two the same and each a file's; of a module, as `function` is.
    label : callable
        What a person calls the task.
    sizes : sequence of float
        What `progress` is told of each task, altogether.
    folder : path
        That all workers see.
    """
    names = [name(task) for task in tasks]
    sized = zip(names, map(label, tasks), sizes, strict=True)
    followed = Followed({each: (said, size) for each, said, size in sized}, progress)
    with ExitStack() as stack:
        if executor.remote:
            folder.mkdir(parents=True, exist_ok=True)
            call = partial(_in_worker, function, name, folder)
            stack.enter_context(followed.files(folder))
        else:
            call = partial(_here, function, name, followed)
        for position, result in executor.map(call, tasks, device=device):
            followed.told(names[position], 1.0, "")
            yield result


def _here(function: Callable[[T], R], name: Callable[[T], str], followed: Followed, task: T) -> R:
    with reporting(partial(followed.told, name(task))):
        return function(task)


def _in_worker(function: Callable[[T], R], name: Callable[[T], str], folder: Path, task: T) -> R:
    with reporting(partial(_write, folder / name(task))):
        return function(task)


def _write(path: Path, share: float, text: str) -> None:
    # The folder may be gone, or its disk full: that is no reason to end.
    with suppress(OSError), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps([share, text]) + "\n")


class Followed:
    """Tasks at work, whose reports add up to a stage's progress.

    Parameters
    ----------
    tasks : mapping
        What a person calls each task, and what progress is told of it altogether, by its name.
    """

    def __init__(self, tasks: Mapping[str, tuple[str, float]], progress: Progress) -> None:
        self.tasks, self.progress = tasks, progress
        self._shares = dict.fromkeys(tasks, 0.0)
        self._read = dict.fromkeys(tasks, 0)
        self._lock = threading.Lock()

    def told(self, name: str, share: float, text: str) -> None:
        """A task has come so far. One that starts again, where a worker died, adds nothing."""
        label, size = self.tasks[name]
        with self._lock:
            more = max(0.0, share - self._shares[name])
            self._shares[name] += more
        if more or text:
            self.progress(more * size, f"{text} ({label})" if text else None)

    def look(self, folder: Path) -> None:
        """Tell what workers have written since the last look."""
        for path in folder.iterdir():
            if path.name not in self.tasks:
                continue
            with path.open("rb") as file:
                file.seek(self._read[path.name])
                lines = file.read()
            # A line that is being written is read next time.
            lines = lines[: lines.rfind(b"\n") + 1]
            self._read[path.name] += len(lines)
            for line in lines.splitlines():
                with suppress(ValueError):
                    self.told(path.name, *json.loads(line))

    @contextmanager
    def files(self, folder: Path) -> Iterator[None]:
        """Look again and again inside."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(LOOK):
                with suppress(OSError):
                    self.look(folder)

        thread = threading.Thread(target=watch, name="reports", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            with suppress(OSError):
                self.look(folder)
