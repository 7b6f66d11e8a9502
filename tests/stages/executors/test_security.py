"""Nobody gets into a run's dask cluster: from no other machine, and not without a certificate."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from distributed import Client, Security
from support.clusters import listening, refused_without_certificate, worker_pids

from cache import UserError
from stages.executors import ClusterSettings, batch_cluster, dask_executor

#: Loopback: machines that tests run on need not know their own name.
HERE = {"scheduler_options": {"host": "127.0.0.1"}}

#: Tells of each port whether it takes connections.
CONNECT = """
import socket, sys
for port in sys.argv[2:]:
    try:
        socket.create_connection((sys.argv[1], int(port)), timeout=5).close()
        print("open")
    except ConnectionRefusedError:
        print("refused")
"""


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """Two workers of this machine: the executor, and what all of its processes listen on."""
    this = psutil.Process()
    before = listening(this)
    with executor_here(tmp_path_factory.mktemp("local")) as executor:
        assert len(worker_pids()) == 2
        yield executor, listening(this, *this.children(recursive=True)) - before


def executor_here(folder: Path):
    return dask_executor(folder=folder, scheduler="local", batch=None, workers=2, memory_limit=None)


@pytest.fixture
def network():
    """A command in another network namespace, and this machine's address there."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip(
            "only root makes network namespaces, with ip (Debian: apt-get install iproute2)"
        )
    name, (here, there) = f"vitv1-{os.getpid()}", ("198.18.77.1", "198.18.77.2")
    link = f"v{os.getpid()}"
    inside = ["ip", "netns", "exec", name]
    try:
        for command in (
            ["ip", "netns", "add", name],
            ["ip", "link", "add", link, "type", "veth", "peer", "name", "there", "netns", name],
            ["ip", "addr", "add", f"{here}/30", "dev", link],
            ["ip", "link", "set", link, "up"],
            [*inside, "ip", "addr", "add", f"{there}/30", "dev", "there"],
            [*inside, "ip", "link", "set", "there", "up"],
        ):
            made = subprocess.run(command, capture_output=True, text=True, check=False)
            if made.returncode:
                pytest.skip(f"no network namespace here: {made.stderr.strip()}")
        yield inside, here
    finally:
        subprocess.run(["ip", "link", "del", link], capture_output=True, check=False)
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def test_a_cluster_of_this_machine_listens_on_loopback(local):
    _, found = local
    # Scheduler, two workers and two nannies; scheduler and workers have pages, too.
    assert len(found) >= 8
    assert {address for address, _ in found} == {"127.0.0.1"}


def test_another_machine_is_refused_by_a_cluster_of_this_one(local, network):
    (_, found), (inside, here) = local, network
    ports = [str(port) for _, port in found]
    with socket.create_server((here, 0)) as control:
        told = subprocess.run(
            [*inside, sys.executable, "-c", CONNECT, here, str(control.getsockname()[1]), *ports],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    assert told.stdout.split() == ["open"] + ["refused"] * len(ports)


def test_other_users_of_this_machine_are_refused_by_its_cluster(local):
    executor, _ = local
    workers = executor.client.scheduler_info()["workers"]
    nannies = [worker["nanny"] for worker in workers.values()]
    for address in (executor.client.scheduler.address, *workers, *nannies):
        refused_without_certificate(address)


@pytest.mark.parametrize("system", ["slurm", "lsf"])
def test_the_uninvited_are_refused_by_the_scheduler_of_jobs(system, tmp_path):
    settings = ClusterSettings(options=HERE | ({"lsf_units": "mb"} if system == "lsf" else {}))
    with batch_cluster(system, settings, tmp_path) as cluster:
        address = cluster.scheduler_address
        # Whoever has no certificate, and a stranger with one of their own.
        strangers = {address.replace("tls://", "tcp://"): None, address: Security.temporary()}
        for name, security in strangers.items():
            with pytest.raises(OSError, match=r"(?i)reset|timed out|certificate"):
                Client(name, security=security, timeout=2, set_as_default=False)
        refused_without_certificate(address)
        with Client(cluster, set_as_default=False) as invited:
            assert invited.run_on_scheduler(os.getpid) == os.getpid()


def test_jobs_read_the_certificate_from_a_file_of_their_owner(tmp_path, monkeypatch):
    """Its path is absolute, and quoted in the script."""
    folder = tmp_path / "my runs"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    with batch_cluster("slurm", ClusterSettings(options=HERE), Path("my runs")) as cluster:
        (file,) = folder.iterdir()
        assert file.stat().st_mode & 0o777 == 0o600 and "PRIVATE KEY" in file.read_text()
        script = cluster.job_script()
    for option in ("--tls-ca-file", "--tls-cert", "--tls-key"):
        assert f"{option} '{file}'" in script
    assert "PRIVATE KEY" not in script


def test_pages_are_on_loopback_unless_asked_for(tmp_path):
    before = listening(psutil.Process())
    with batch_cluster("slurm", ClusterSettings(options=HERE), tmp_path) as cluster:
        assert "--no-dashboard --dashboard-address 127.0.0.1:0" in cluster.job_script()
        found = listening(psutil.Process()) - before
        assert len(found) == 2 and {address for address, _ in found} == {"127.0.0.1"}
    asked = {"scheduler_options": {"host": "127.0.0.1", "dashboard_address": "0.0.0.0:0"}}
    with batch_cluster("slurm", ClusterSettings(options=asked), tmp_path):
        assert "0.0.0.0" in {address for address, _ in listening(psutil.Process()) - before}


@pytest.mark.parametrize("asked", [{"protocol": "tcp://"}, {"security": False}])
def test_whoever_asks_for_no_encryption_gets_none(asked, tmp_path):
    with batch_cluster("slurm", ClusterSettings(options=HERE | asked), tmp_path) as cluster:
        assert cluster.scheduler_address.startswith("tcp://127.0.0.1")
        assert "--tls" not in cluster.job_script() and not list(tmp_path.iterdir())


def test_a_missing_package_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with (
        pytest.raises(UserError, match=r"needs cryptography, .* pip install 'vitv1\[cluster\]'"),
        executor_here(tmp_path),
    ):
        pass
