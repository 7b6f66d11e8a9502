"""Executors of tasks, and the one of this machine: this process, or several others.

A task is a frozen dataclass that names stores, conditions and ranges. It gives the same result
wherever and however often it is computed: a worker that dies costs time and nothing else.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import KW_ONLY, InitVar, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import joblib
from joblib.externals.loky import ProcessPoolExecutor
from joblib.externals.loky.process_executor import BrokenProcessPool

from stages.executors.life import (
    PATIENCE,
    Note,
    Patience,
    attend,
    end_own_worker,
    signs_in,
    watched,
)
from stages.executors.resources import cpu_threads, return_memory, shared_limit
from stages.executors.serialize import Shipment

T = TypeVar("T")
R = TypeVar("R")

#: How often a task may lose its worker before the run ends.
DEATHS = 3


class WorkersDied(Exception):
    """Workers died again and again over the same tasks."""


class Executor(Protocol):
    """Computes tasks, several at a time."""

    #: Tasks that are computed at a time.
    workers: int
    #: Whether tasks are computed outside this process.
    remote: bool
    #: Whether several threads may map at a time.
    concurrent: bool

    @property
    def task_memory(self) -> int | None:
        """Bytes that one task may use; None where that is not known."""

    def stop(self) -> None:
        """End all maps of other threads, with an error, and give no more tasks out."""

    def map(
        self, function: Callable[[T], R], tasks: Sequence[T], *, device: str = "cpu"
    ) -> Iterator[tuple[int, R]]:
        """Compute all tasks.

        Parameters
        ----------
        function : callable
            Of a module, so that other processes find it.
        device : str
            Anything but "cpu": each task waits until it has a GPU to itself.

        Yields
        ------
        int, R
            Position and result of each task as it is done, in any order.

        Raises
        ------
        WorkersDied
            The same task lost its worker several times.
        """


@dataclass
class LocalExecutor:
    """Processes of this machine; with one worker, this process itself.

    Each worker has one thread. Arrays that tasks share are written to the folder.

    Parameters
    ----------
    memory_limit : int, optional
        Bytes for all together, this process included.
    devices : sequence of str
        For tasks that need a GPU: with several, as many of them are computed at a time as there are
        devices (and workers), each on a device of its own. One that is named twice takes two.
    note : callable, optional
        Is told of workers that do not answer.
    patience : Patience
        With these workers.
    """

    workers: int
    _: KW_ONLY
    folder: InitVar[Path]
    memory_limit: int | None = None
    devices: Sequence[str] = ("cpu",)
    note: Note = lambda message: None
    patience: Patience = PATIENCE

    concurrent = False

    def __post_init__(self, folder: Path) -> None:
        self.remote = self.workers > 1
        self.shipment = Shipment(folder)
        self._signs = folder.absolute() / "signs"

    def stop(self) -> None:
        """No other thread maps."""

    @property
    def task_memory(self) -> int | None:
        """Bytes that one task may use."""
        return shared_limit(self.memory_limit, self.workers)

    def map(
        self, function: Callable[[T], R], tasks: Sequence[T], *, device: str = "cpu"
    ) -> Iterator[tuple[int, R]]:
        """See `Executor.map`.

        With a `device` other than "cpu" tasks are dataclasses with a field `device`. On the only
        device they are computed one after the other in this process, as they are. Of several
        devices each gets the first that is free, in its field, whatever it had there.
        """
        waiting = dict(enumerate(tasks))
        places = min(self.workers, len(tasks))
        if device != "cpu":
            places = min(places, len(self.devices))
        if places <= 1:
            for position, task in waiting.items():
                with cpu_threads(1):
                    result = function(task)
                # What the next task may use is what this process does not.
                return_memory()
                yield position, result
            return
        self._signs.mkdir(parents=True, exist_ok=True)
        compute_all = self._on_cores if device == "cpu" else self._on_devices
        signs = partial(signs_in, self._signs)
        with watched(signs, self.patience, self.note, replace=end_own_worker):
            for attempt in range(DEATHS + 1):
                try:
                    for position, result in compute_all(function, waiting, places):
                        del waiting[position]
                        yield position, result
                    return
                except BrokenProcessPool:
                    if attempt == DEATHS:
                        raise WorkersDied(
                            f"workers died {DEATHS + 1} times, {len(waiting)} of {len(tasks)} "
                            "tasks are left; memory may be short: lower run.workers or "
                            "run.memory_limit"
                        ) from None

    def _on_cores(
        self, function: Callable[[T], R], tasks: Mapping[int, T], places: int
    ) -> Iterator[tuple[int, R]]:
        """So many at a time, each on one core."""
        here = self._here()
        calls = [
            joblib.delayed(_attended)(*here, function, position, self.shipment.pack(task))
            for position, task in tasks.items()
        ]
        yield from joblib.Parallel(
            n_jobs=places,
            return_as="generator_unordered",
            initializer=attend,
            initargs=(os.getpid(),),
        )(calls)

    def _on_devices(
        self, function: Callable[[T], R], tasks: Mapping[int, T], places: int
    ) -> Iterator[tuple[int, R]]:
        """One at a time on each device, in a process of the device's own, which ends with them.

        A process that went from device to device would keep memory on all of them.
        """
        here = self._here()
        attended = {"initializer": attend, "initargs": (os.getpid(),)}
        processes = [
            (ProcessPoolExecutor(1, **attended), device) for device in self.devices[:places]
        ]
        free, left = list(processes), list(tasks.items())
        running: dict[Future[tuple[int, R]], tuple[ProcessPoolExecutor, str]] = {}
        try:
            while left or running:
                while left and free:
                    (position, task), (process, device) = left.pop(0), free.pop(0)
                    placed = self.shipment.pack(replace(cast(Any, task), device=device))
                    future = process.submit(_attended, *here, function, position, placed)
                    running[future] = process, device
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    free.append(running.pop(future))
                    yield future.result()
        finally:
            for process, _ in processes:
                process.shutdown(kill_workers=True)

    def _here(self) -> tuple[int, Path, str]:
        """What each worker must know of this process: number, folder of signs, and home."""
        return os.getpid(), self._signs, str(Path.cwd())


def _attended(
    parent: int, signs: Path, home: str, function: Callable[[Any], R], position: int, packed: bytes
) -> tuple[int, R]:
    """`compute` in a worker that gives signs of life from now on."""
    attend(parent, signs)
    return compute(function, position, packed, home)


def compute(function: Callable[[Any], R], position: int, packed: bytes, home: str) -> tuple[int, R]:
    """Compute one task in a worker: on one thread, whatever libraries would take.

    Relative paths in tasks start at `home`, the folder in which the command was given.
    """
    if Path.cwd() != Path(home):
        os.chdir(home)
    try:
        with cpu_threads(1):
            return position, function(pickle.loads(packed))
    finally:
        # loky ends a worker that seems to keep the memory of its task, and starts another.
        return_memory()
