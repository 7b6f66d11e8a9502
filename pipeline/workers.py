"""Workers that an experiment's [run] table asks for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cache import UserError, make_folder
from pipeline.work_folder import work_folder
from stages.costs import MemoryLimit, Workers
from stages.executors import (
    ClusterSettings,
    default_memory_limit,
    n_cores,
    resident_memory,
    resolve_device,
    resolve_devices,
    shared_limit,
)
from stages.settings import readable
from stages.stage import Crew

if TYPE_CHECKING:
    from pipeline.experiment import RunSettings
    from pipeline.terminal import Terminal
    from stages.executors import Executor

#: Folder, in the run's, of what a batch system's jobs print.
JOB_LOGS = "jobs"

Batch = tuple[Literal["slurm", "lsf"], ClusterSettings]


def check_run(run: RunSettings) -> None:
    """Refuse settings that contradict each other, and a device that is not there.

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
    # Only torch knows other devices, and it takes seconds to import.
    if run.device not in ("auto", "cpu"):
        device_of(run)


def workers_of(run: RunSettings) -> Workers:
    """The workers that a run would have, told from its settings."""
    if batch := _batch(run):
        _, settings = batch
        return Workers(settings.jobs[1] * settings.tasks, settings.task_memory)
    if run.executor == "dask" and run.scheduler not in (None, "local"):
        return Workers(None, None)
    number = run.workers or n_cores()
    limit = shared_limit(run.memory_limit or default_memory_limit(), number)
    return Workers(number, limit, concurrent=run.executor == "dask")


def limit_of(run: RunSettings) -> MemoryLimit | None:
    """Most memory that one task may have; None where only a scheduler's workers know."""
    if batch := _batch(run):
        system, settings = batch
        return MemoryLimit(
            settings.task_memory,
            f"run.{system}.memory = {readable(settings.memory)} for {settings.tasks} tasks at a "
            f"time leaves {readable(settings.task_memory)}",
            f"raise it, lower run.{system}.cores",
            divides=True,
        )
    if run.executor == "dask" and run.scheduler not in (None, "local"):
        return None
    limit = run.memory_limit or default_memory_limit()
    return MemoryLimit(limit, f"run.memory_limit leaves {readable(limit)}")


def devices_of(run: RunSettings) -> list[str]:
    """The devices that tasks compute on; what a cluster's workers have, only they know."""
    return [device_of(run)] if run.executor == "dask" else resolve_devices(run.device)


def device_of(run: RunSettings) -> str:
    """The first of them."""
    if run.executor == "dask":
        return "cpu" if run.device == "auto" else run.device.split(",")[0].strip()
    return resolve_device(run.device)


@contextmanager
def workplace(
    run: RunSettings, output: Path, crew: Crew, terminal: Terminal
) -> Iterator[tuple[Executor, Path]]:
    """Workers for some tasks, and a folder that all of them see; both gone however the work ends.

    Parameters
    ----------
    output : path
        The run's folder; on a cluster, a disk that all its machines share.
    crew : Crew
        Workers that the tasks can use; no more are started on this machine, and no more than the
        memory holds.

    Raises
    ------
    UserError
        A scheduler that does not answer, or a package that is not installed.
    """
    # dask and joblib take a while to import, and plans must do without them.
    from stages.executors import LocalExecutor, dask_executor

    limit = run.memory_limit or default_memory_limit()
    workers = _workers(run, crew, limit, terminal)
    make_folder(output)
    with work_folder(output) as folder:
        if run.executor == "local":
            yield (
                LocalExecutor(
                    workers,
                    folder=folder,
                    memory_limit=limit,
                    devices=crew.devices,
                    note=terminal.note,
                ),
                folder,
            )
            return
        with dask_executor(
            folder=folder,
            scheduler=run.scheduler,
            batch=_batch(run),
            workers=workers,
            memory_limit=limit,
            logs=output / JOB_LOGS,
            note=terminal.note,
        ) as remote:
            yield remote, folder


def _workers(run: RunSettings, crew: Crew, limit: int, terminal: Terminal) -> int:
    """As many as the tasks can use, cores and memory allow."""
    workers = max(1, min(crew.workers, (run.workers or n_cores()) // crew.threads))
    if len(crew.devices) > 1:
        return len(crew.devices)
    elsewhere = _batch(run) is not None or run.scheduler not in (None, "local")
    if elsewhere or crew.needed is None or workers == 1:
        return workers
    each = crew.needed()
    room = max(1, (limit - resident_memory()) // each)
    if room < workers:
        terminal.note(
            f"run.memory_limit = {readable(limit)} holds {room} of {workers} workers, "
            f"{readable(each)} each"
        )
    return min(workers, room)


def _batch(run: RunSettings) -> Batch | None:
    if run.slurm is not None:
        return "slurm", run.slurm
    return None if run.lsf is None else ("lsf", run.lsf)
