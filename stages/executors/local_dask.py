"""A dask cluster of this machine's processes; one that dies is replaced."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.executors.cluster_settings import GPU
from stages.executors.security import own_certificates

if TYPE_CHECKING:
    from distributed import Client

#: Nobody else's machine gets in. No other user of this one does: they have no certificate.
LOOPBACK = "127.0.0.1"

#: Seconds between looks at the workers.
WATCH = 1.0


@contextmanager
def local_workers(number: int, folder: Path) -> Iterator[Client]:
    """A scheduler and worker processes on this machine, one GPU each where there are any.

    The folder is for what workers write; it is removed with the run, however that ends.
    """
    import torch
    from distributed import Client, Nanny, Scheduler, SpecCluster

    gpus = torch.cuda.device_count()
    security = own_certificates()
    private = {"host": LOOPBACK, "protocol": "tls://", "security": security}
    spec = {
        place: {
            "cls": Nanny,
            "options": {
                **private,
                "nthreads": 1,
                "silence_logs": logging.CRITICAL,
                # Plans keep to the limit; dask would count shared pages once per process.
                "memory_limit": 0,
                "dashboard": False,
                "local_directory": str(folder.absolute()),
                "resources": {GPU: 1} if place < gpus else {},
                "env": {"CUDA_VISIBLE_DEVICES": str(place)} if place < gpus else {},
            },
        }
        for place in range(number)
    }
    scheduler = {
        "cls": Scheduler,
        "options": {**private, "port": 0, "dashboard_address": f"{LOOPBACK}:0"},
    }
    with (
        SpecCluster(
            workers=spec, scheduler=scheduler, security=security, silence_logs=logging.CRITICAL
        ) as cluster,
        Client(cluster) as client,
        _revived(cluster),
    ):
        yield client


@contextmanager
def _revived(cluster: Any) -> Iterator[None]:
    """Have workers without a process replaced.

    A nanny starts a worker again that died, and gives up if it dies again while it starts. With no
    worker left, a run would wait for ever.
    """
    over = threading.Event()
    dead: set[int] = set()

    async def look() -> None:
        found = {id(n): name for name, n in cluster.workers.items() if not n.is_alive()}
        # Only without a process twice in a row: else its nanny is at work.
        for number in dead & found.keys():
            await cluster.workers.pop(found[number]).close()
        dead.clear()
        dead.update(found)
        await cluster._correct_state()

    def watch() -> None:
        while not over.wait(WATCH):
            try:
                cluster.sync(look)
            except Exception as error:
                # A process could not be started, for example: it is tried again.
                logging.getLogger(__name__).info("workers could not be revived: %s", error)

    thread = threading.Thread(target=watch, name="workers", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
