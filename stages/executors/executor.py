"""Where tasks are computed: in this process, in others on this machine, or on a cluster.

A task is a frozen dataclass that names stores, conditions and ranges. It gives the same result
wherever it is computed, and however often: a worker that dies costs time and nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import joblib
from joblib.externals.loky.process_executor import BrokenProcessPool
from threadpoolctl import threadpool_limits

from stages.executors.resources import return_memory
from stages.executors.serialize import Shipment, unpack

T = TypeVar("T")
R = TypeVar("R")

#: How often a task may lose its worker before the run ends.
DEATHS = 3


class WorkersDied(Exception):
    """Workers ended again and again while they computed the same tasks."""


class Executor(Protocol):
    """Computes tasks, several at a time."""

    @property
    def workers(self) -> int:
        """Tasks that are computed at a time."""

    @property
    def task_memory(self) -> int | None:
        """Bytes that one task may use; None where nobody knows."""

    @property
    def remote(self) -> bool:
        """Whether tasks are computed outside this process."""

    @property
    def concurrent(self) -> bool:
        """Whether several threads may map at a time."""

    def stop(self) -> None:
        """End all maps of other threads, with an error, and give no more tasks out."""

    def map(
        self, function: Callable[[T], R], tasks: Sequence[T], *, device: str = "cpu"
    ) -> Iterator[tuple[int, R]]:
        """Compute all tasks; position and result of each as it is done, in any order.

        Parameters
        ----------
        function : callable
            Of a module, so that other processes find it.
        device : str
            Anything but "cpu": each task waits until it has a GPU to itself.

        Raises
        ------
        WorkersDied
            The same task lost its worker several times.
        """


class LocalExecutor:
    """Processes of this machine; with one worker, this process itself.

    Parameters
    ----------
    workers : int
        Processes, each with one thread.
    folder : path
        For what tasks share while they are computed.
    memory_limit : int, optional
        Bytes for all together, this process included.
    """

    concurrent = False

    def __init__(self, workers: int, *, folder: Path, memory_limit: int | None = None) -> None:
        self.workers = workers
        self._shipment = Shipment(folder)
        self._memory_limit = memory_limit

    @property
    def remote(self) -> bool:
        """Whether tasks are computed outside this process."""
        return self.workers > 1

    def stop(self) -> None:
        """No other thread maps."""

    @property
    def task_memory(self) -> int | None:
        """Bytes that one task may use."""
        return shared_limit(self._memory_limit, self.workers)

    def map(
        self, function: Callable[[T], R], tasks: Sequence[T], *, device: str = "cpu"
    ) -> Iterator[tuple[int, R]]:
        """See `Executor.map`; on a GPU, one after the other in this process."""
        workers = min(self.workers, len(tasks))
        if workers <= 1 or device != "cpu":
            for position, task in enumerate(tasks):
                yield position, function(task)
            return
        waiting = {position: self._shipment.pack(task) for position, task in enumerate(tasks)}
        for attempt in range(DEATHS + 1):
            parallel = joblib.Parallel(n_jobs=workers, return_as="generator_unordered")
            home = str(Path.cwd())
            calls = [joblib.delayed(compute)(function, *each, home) for each in waiting.items()]
            try:
                for position, result in parallel(calls):
                    del waiting[position]
                    yield position, result
                return
            except BrokenProcessPool:
                if attempt == DEATHS:
                    raise WorkersDied(
                        f"workers died {DEATHS + 1} times, {len(waiting)} of {len(tasks)} tasks "
                        "are left; memory may be short: lower run.workers or run.memory_limit"
                    ) from None


def shared_limit(memory_limit: int | None, workers: int) -> int | None:
    """What of a limit each worker may use, this process's own memory set aside."""
    from stages.executors.resources import resident_memory

    if memory_limit is None or workers <= 1:
        return memory_limit
    return (memory_limit - resident_memory()) // workers


def compute(function: Callable[[Any], R], position: int, packed: bytes, home: str) -> tuple[int, R]:
    """What a worker does with one task: on one thread, whatever libraries would take.

    Parameters
    ----------
    home : path
        Where the command was given: relative paths in tasks mean what they meant there.
    """
    import torch

    torch.set_num_threads(1)
    if Path.cwd() != Path(home):
        os.chdir(home)
    try:
        with threadpool_limits(1):
            return position, function(unpack(packed))
    finally:
        # A worker that seems to keep what its task used is ended by loky, and started anew.
        return_memory()
