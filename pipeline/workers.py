"""Where an experiment's tasks are computed, as its [run] table says."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cache import UserError
from pipeline.experiment import RunSettings
from pipeline.terminal import Terminal
from stages.executors.cluster_settings import ClusterSettings
from stages.executors.dask import System, dask_executor
from stages.executors.executor import Executor, LocalExecutor
from stages.executors.resources import (
    default_memory_limit,
    n_cores,
    resident_memory,
    resolve_device,
    shared_limit,
)
from stages.settings import readable


@dataclass(frozen=True)
class Capacity:
    """Who computes: as far as settings tell, without asking any scheduler.

    Parameters
    ----------
    workers : int, optional
        Tasks at a time; None where a running scheduler's workers decide.
    task_memory : int, optional
        Bytes for each; None where they decide.
    concurrent : bool
        Whether several conditions may be divided among them at a time.
    """

    workers: int | None
    task_memory: int | None
    concurrent: bool = True


def capacity_of(run: RunSettings) -> Capacity:
    """The workers that a run would have.

    Raises
    ------
    UserError
        Settings that contradict each other.
    """
    check_run(run)
    batch = _batch(run)
    if batch is not None:
        _, settings = batch
        return Capacity(settings.jobs[1] * settings.tasks, settings.task_memory)
    if run.executor == "dask" and run.scheduler not in (None, "local"):
        return Capacity(None, None)
    workers = run.workers or n_cores()
    limit = shared_limit(run.memory_limit or default_memory_limit(), workers)
    return Capacity(workers, limit, concurrent=run.executor == "dask")


#: Folder, in the run's, of what a batch system's jobs print.
JOB_LOGS = "jobs"


@dataclass(frozen=True)
class Workplace:
    """An executor, and a folder that it and all its workers see, gone at the end."""

    executor: Executor
    folder: Path


@contextmanager
def workplace(
    run: RunSettings,
    output: Path,
    terminal: Terminal,
    *,
    n_tasks: int,
    needed: Callable[[], int] | None = None,
    threads: int = 1,
) -> Iterator[Workplace]:
    """Workers for some tasks; ended, and the folder deleted, however the work ends.

    Parameters
    ----------
    output : path
        The run's folder; on a cluster, a disk that all its machines share.
    n_tasks : int
        No more workers are started on this machine.
    needed : callable, optional
        Bytes that a task needs at least: as many workers are started as the memory holds.
    threads : int
        Cores that one task uses.

    Raises
    ------
    UserError
        Settings that contradict each other, a scheduler that does not answer, a package that is
        not installed, or jobs with too little memory.
    """
    check_run(run)
    batch = _batch(run)
    limit = run.memory_limit or default_memory_limit()
    workers = max(1, min(n_tasks, (run.workers or n_cores()) // threads))
    if batch is not None:
        _check_jobs(*batch, needed)
    elif needed is not None and workers > 1 and run.scheduler in (None, "local"):
        each = needed()
        room = max(1, (limit - resident_memory()) // each)
        if room < workers:
            terminal.note(
                f"run.memory_limit = {readable(limit)} holds {room} of {workers} workers, "
                f"{readable(each)} each"
            )
        workers = min(workers, room)
    output.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".work-", dir=output))
    try:
        if run.executor == "local":
            yield Workplace(LocalExecutor(workers, folder=folder, memory_limit=limit), folder)
            return
        with dask_executor(
            folder=folder,
            scheduler=run.scheduler,
            batch=batch,
            workers=workers,
            memory_limit=limit,
            logs=output / JOB_LOGS,
        ) as executor:
            yield Workplace(executor, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _check_jobs(
    system: System, settings: ClusterSettings, needed: Callable[[], int] | None
) -> None:
    """Refuse jobs that would wait in a queue to fail for want of memory."""
    each = 0 if needed is None else needed()
    if each > settings.task_memory:
        raise UserError(
            f"run.{system}.memory = {readable(settings.memory)} for {settings.tasks} tasks at a "
            f"time is {readable(settings.task_memory)} for each, but one needs {readable(each)}: "
            f"raise it, or lower run.{system}.cores"
        )


def device_of(run: RunSettings) -> str:
    """Where a task computes; what a cluster's workers have, only they know."""
    if run.executor == "dask":
        return "cpu" if run.device == "auto" else run.device.split(",")[0].strip()
    return resolve_device(run.device)


def check_run(run: RunSettings) -> None:
    """Refuse settings that contradict each other.

    Raises
    ------
    UserError
        The message names them.
    """
    places = [name for name in ("scheduler", "slurm", "lsf") if getattr(run, name) is not None]
    if run.executor == "local" and places:
        raise UserError(f'run.{places[0]} is for run.executor = "dask": set that, or drop it')
    if len(places) > 1:
        raise UserError(f"run.{places[0]} and run.{places[1]} exclude each other: keep one")


def _batch(run: RunSettings) -> tuple[System, ClusterSettings] | None:
    if run.slurm is not None:
        return "slurm", run.slurm
    return None if run.lsf is None else ("lsf", run.lsf)
