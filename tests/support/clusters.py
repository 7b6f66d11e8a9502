"""A dask scheduler and workers as a person starts them: processes of their own, on loopback."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
from distributed import Client, Security

from cache import TokenShape, plan_layout, write_cache
from stages.fit.task import FitTask
from stages.readouts.settings import ALSSettings, ReadoutSettings
from support.poisson import poisson_task


@dataclass(frozen=True)
class HandStarted:
    """A running scheduler's address."""

    address: str

    def wait(self, workers: int) -> None:
        """Until so many workers are there: a killed one comes back after a while."""
        if workers:
            with Client(self.address, set_as_default=False) as client:
                client.wait_for_workers(workers, timeout=60)

    def pids(self) -> list[int]:
        """Numbers of the processes that compute."""
        with Client(self.address, set_as_default=False) as client:
            return list(client.run(os.getpid).values())


def worker_pids() -> list[int]:
    """Processes of the workers that this process is connected to."""
    return list(Client.current().run(os.getpid).values())


@contextlib.contextmanager
def hand_started(home: Path, workers: Sequence[Sequence[str]]) -> Iterator[HandStarted]:
    """A scheduler, and one single-threaded worker per list of further options."""
    dask = [sys.executable, "-m", "dask"]
    file = home / "scheduler.json"
    environment = os.environ | {"DASK_TEMPORARY_DIRECTORY": str(home), "OMP_NUM_THREADS": "1"}
    tests = Path(__file__).parents[1]
    environment["PYTHONPATH"] = f"{tests.parent}{os.pathsep}{tests}"
    quiet = {
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.DEVNULL,
        "env": environment,
        "start_new_session": True,
    }
    start = [*dask, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    # In a folder of their own: relative paths must mean what they mean to the command.
    processes = [subprocess.Popen([*start, "--scheduler-file", file], cwd=home, **quiet)]
    try:
        for options in workers:
            worker = [*dask, "worker", "--scheduler-file", file, "--host", "127.0.0.1"]
            command = [*worker, "--nthreads", "1", "--no-dashboard", *options]
            processes.append(subprocess.Popen(command, cwd=home, **quiet))
        until = time.monotonic() + 60
        while not file.exists():
            assert time.monotonic() < until, "no scheduler"
            time.sleep(0.05)
        with Client(scheduler_file=str(file), set_as_default=False) as client:
            client.wait_for_workers(len(workers), timeout=60)
            address = client.scheduler.address
        yield HandStarted(address)
    finally:
        for process in processes:
            # With the worker below a nanny, and without its leave.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def listening(*processes: psutil.Process) -> set[tuple[str, int]]:
    """Addresses and ports that processes take connections on."""
    found = (each.net_connections("inet") for each in processes)
    return {tuple(c.laddr) for each in found for c in each if c.status == psutil.CONN_LISTEN}


def refused_without_certificate(address: str) -> None:
    """Strangers who do not mind who answers are sent away: with no certificate, or with theirs."""
    scheme, _, place = address.partition("://")
    host, port = place.rsplit(":", 1)
    assert scheme == "tls"
    own = Security.temporary()
    for told, shown in {"certificate.required": None, "unknown.ca": own.tls_client_cert}.items():
        stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        stranger.check_hostname, stranger.verify_mode = False, ssl.CERT_NONE
        if shown:
            with tempfile.NamedTemporaryFile("w") as file:
                file.write(own.tls_client_key + shown)
                file.flush()
                stranger.load_cert_chain(file.name)
        with (
            pytest.raises(ssl.SSLError, match=f"(?i){told}"),
            socket.create_connection((host, int(port)), timeout=10) as plain,
            stranger.wrap_socket(plain) as connection,
        ):
            connection.recv(1)


def noise_task(
    folder: Path, *, n_images: int = 4700, n_neurons: int = 40, n_channels: int = 16
) -> FitTask:
    """A fit of three shards: neurons that read one position of random tokens."""
    shape = TokenShape(
        n_blocks=1, grid=(2, 4), n_channels=n_channels, n_registers=0, dtype="float16"
    )
    draw, ids = np.random.default_rng(0), np.arange(n_images)
    tokens = draw.standard_normal((n_images, *shape.item("patches"))).astype(np.float16)
    path = folder / "noise.zarr"
    with write_cache(
        path,
        settings={"backbone": {"n_blocks": 1}},
        provenance={},
        image_ids=ids,
        shape=shape,
        layout=plan_layout(shape, n_images=n_images, chunk_bytes=2**14, shard_bytes=2**19),
    ) as writer:
        for shard in writer.missing_shards():
            rows = writer.shard_ids(shard)
            cls = np.zeros((len(rows), n_channels), dtype=np.float16)
            writer.write_shard(shard, [{"patches": tokens[rows], "cls": cls}])
        writer.finish()
    weights = draw.standard_normal((n_channels, n_neurons)).astype(np.float32) / 4
    z = tokens[:, 0, 1].astype(np.float32) @ weights
    rates = np.where(z > 0, z + 1, np.exp(np.minimum(z, 0)))
    settings = ReadoutSettings(als=ALSSettings(max_components=8))
    return poisson_task(path, rates, draw, n_test=60, settings=settings)
