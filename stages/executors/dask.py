"""Tasks on a dask cluster: workers started by hand, on this machine, or by a batch system."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from cache import UserError
from stages.executors.cluster_settings import GPU, USABLE, ClusterSettings
from stages.executors.executor import DEATHS, WorkersDied, compute
from stages.executors.life import PATIENCE, Note, Patience, watched
from stages.executors.local_dask import LOOPBACK, local_workers
from stages.executors.resources import shared_limit
from stages.executors.security import shared_certificates
from stages.executors.serialize import Shipment

if TYPE_CHECKING:
    from distributed import Client

T = TypeVar("T")
R = TypeVar("R")

System = Literal["slurm", "lsf"]

#: Seconds to wait for an answer of a scheduler.
ANSWER = 20

#: Arguments of dask's `adapt`. As many jobs are asked for at once as there are tasks. A job without
#: work is kept for two minutes, since the next step may have some and a new job may queue.
ADAPT: Mapping[str, Any] = {"target_duration": "100ms", "interval": "2s", "wait_count": 60}


@dataclass(kw_only=True)
class DaskExecutor:
    """The workers of one dask scheduler; see `stages.executors.executor.Executor`."""

    client: Client
    shipment: Shipment
    workers: int
    task_memory: int | None
    at_work: set[Any] = field(default_factory=set)
    stopped: bool = False

    remote = True
    concurrent = True

    def map(
        self, function: Callable[[T], R], tasks: Sequence[T], *, device: str = "cpu"
    ) -> Iterator[tuple[int, R]]:
        """See `stages.executors.executor.Executor.map`."""
        from distributed import KilledWorker, as_completed

        if self.stopped:
            raise InterruptedError("the workers were told to stop")
        futures = self.client.map(
            compute,
            [function] * len(tasks),
            list(range(len(tasks))),
            [self.shipment.pack(task) for task in tasks],
            [str(Path.cwd())] * len(tasks),
            pure=False,
            resources=None if device == "cpu" else {GPU: 1},
        )
        self.at_work.update(futures)
        try:
            for future in as_completed(futures):
                try:
                    yield future.result()
                except KilledWorker:
                    raise WorkersDied(
                        f"a task lost its worker {DEATHS + 1} times; its memory may be short: "
                        "give each worker more"
                    ) from None
                future.release()
        finally:
            self.at_work.difference_update(futures)
            self.client.cancel(futures, force=True)

    def stop(self) -> None:
        """See `stages.executors.executor.Executor.stop`."""
        self.stopped = True
        self.client.cancel(list(self.at_work), force=True)


@contextmanager
def dask_executor(
    *,
    folder: Path,
    scheduler: str | None,
    batch: tuple[System, ClusterSettings] | None,
    workers: int,
    memory_limit: int | None,
    logs: Path | None = None,
    note: Note = lambda message: None,
    patience: Patience = PATIENCE,
) -> Iterator[DaskExecutor]:
    """An executor on workers that run already, or that are started here and ended at the end.

    Parameters
    ----------
    folder : path
        A folder in which this process and all workers can write.
    scheduler : str, optional
        Address of a running scheduler, or "local" for processes of this machine.
    batch : str and ClusterSettings, optional
        The batch system that workers are asked from, and their jobs.
    workers, memory_limit : int
        Of "local": processes, and bytes for all of them and this process.
    logs : path, optional
        Folder for what jobs of the batch system print.
    note : callable, optional
        Is told of workers that do not answer.
    patience : Patience
        With these workers.

    Raises
    ------
    UserError
        A package that is not installed, or a scheduler that does not answer.
    """
    try:
        from distributed import Client
    except ModuleNotFoundError:
        raise UserError(
            'run.executor = "dask" needs distributed, which is not installed: '
            "pip install 'vitv1[cluster]'"
        ) from None
    share: int | None
    started = True
    with ExitStack() as stack:
        if batch is not None:
            system, settings = batch
            cluster = stack.enter_context(batch_cluster(system, settings, folder, logs=logs))
            fewest, most = settings.jobs
            cluster.adapt(minimum_jobs=fewest, maximum_jobs=most, **ADAPT)
            client = stack.enter_context(Client(cluster))
            workers, share = most * settings.tasks, settings.task_memory
        elif scheduler in (None, "local"):
            client = stack.enter_context(local_workers(workers, folder))
            share = shared_limit(memory_limit, workers)
        else:
            client = stack.enter_context(_connected(str(scheduler)))
            workers, share = _offered(client)
            started = False
        replace = partial(_restart, client) if started else None
        stack.enter_context(watched(partial(_signs, client), patience, note, replace))
        yield DaskExecutor(
            client=client, shipment=Shipment(folder), workers=workers, task_memory=share
        )


def batch_cluster(
    system: System, settings: ClusterSettings, folder: Path, *, logs: Path | None = None
) -> Any:
    """dask-jobqueue's cluster for a batch system, without any job yet.

    One process per core: Python computes one task at a time. Its machines find each other over the
    network, so who connects must have the certificate that lies in `folder`. Web pages, which ask
    for none, are on loopback.

    Raises
    ------
    UserError
        dask-jobqueue is not installed, or knows no such option.
    """
    try:
        import dask
        import dask_jobqueue
    except ModuleNotFoundError:
        raise UserError(
            f"[run.{system}] needs dask-jobqueue, which is not installed: "
            "pip install 'vitv1[cluster]'"
        ) from None
    kind = getattr(dask_jobqueue, {"slurm": "SLURMCluster", "lsf": "LSFCluster"}[system])
    hours, minutes, seconds = settings.time()
    named = dict(settings.options)
    # Who names a protocol gets it, with the certificates of dask's own configuration, if any.
    security = in_script = None
    if named.pop("security", "protocol" not in named):
        security, in_script = shared_certificates(folder)
    scheduler = dask.config.get(f"jobqueue.{system}.scheduler-options", None) or {}
    # Each system writes time its own way.
    options: dict[str, Any] = {
        "security": security,
        "log_directory": logs,
        "queue": settings.queue,
        # A worker with a GPU computes one task at a time, whatever else the job has.
        "cores": settings.tasks,
        "processes": settings.tasks,
        "memory": f"{settings.memory}B",
        "job_extra_directives": list(settings.directives),
        "job_script_prologue": list(settings.prologue),
        "worker_extra_args": [
            *("--lifetime", f"{settings.lifetime}s"),
            *("--no-dashboard", "--dashboard-address", f"{LOOPBACK}:0"),
            *(("--resources", f"{GPU}=1") if settings.gpu else ()),
        ],
    }
    if system == "lsf":
        # LSF takes no seconds, and dask-jobqueue takes its memory in bytes.
        minutes += seconds > 0
        options |= {
            "project": settings.account,
            "walltime": f"{hours + minutes // 60:02d}:{minutes % 60:02d}",
            "mem": settings.memory,
            "ncpus": settings.cores,
        }
    else:
        options |= {
            "account": settings.account,
            "job_cpu": settings.cores,
            "walltime": f"{hours:02d}:{minutes:02d}:{seconds:02d}",
        }
    try:
        scheduler = {"dashboard_address": f"{LOOPBACK}:8787"} | scheduler
        named["scheduler_options"] = scheduler | named.get("scheduler_options", {})
        cluster = kind(**options | named)
    except (TypeError, ValueError) as error:
        what = str(error).partition(". ")[0]
        raise UserError(f"[run.{system}] options: {what}; see dask-jobqueue's manual") from None
    cluster.new_spec["options"]["security"] = in_script
    return cluster


@contextmanager
def _connected(address: str) -> Iterator[Client]:
    """A client of a scheduler that runs already, and has workers."""
    from distributed import Client

    try:
        client = Client(address, timeout=ANSWER)
    except (OSError, ValueError) as error:
        raise UserError(
            f"run.scheduler = {address} does not answer ({str(error).splitlines()[0]}): start it "
            "with dask scheduler, or correct the address"
        ) from None
    with client:
        try:
            client.wait_for_workers(1, timeout=ANSWER)
        except TimeoutError:
            raise UserError(
                f"run.scheduler = {address} has no workers: start some with dask worker {address}"
            ) from None
        yield client


def _signs(client: Client) -> dict[str, object]:
    """When the scheduler last heard of each worker, by its address."""
    workers = client.scheduler_info(n_workers=-1)["workers"]
    return {address: worker["last_seen"] for address, worker in workers.items()}


def _restart(client: Client, address: str) -> None:
    """Have a worker's nanny end its process, and start another."""
    client.restart_workers([address], timeout=ANSWER, raise_for_error=False)


def _offered(client: Client) -> tuple[int, int | None]:
    """Tasks that the workers compute at a time, and the least bytes that one has for each."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    shares = [w["memory_limit"] / w["nthreads"] for w in workers if w["memory_limit"]]
    return sum(w["nthreads"] for w in workers), int(USABLE * min(shares)) if shares else None
