"""A real SLURM of one node on loopback, started for a test and ended with it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.servers import free_port

CONF = """
ClusterName=lab
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
AuthType=auth/munge
AuthInfo=socket={home}/munge.socket
SlurmUser=root
SlurmdUser=root
StateSaveLocation={home}/state
SlurmdSpoolDir={home}/spool
SlurmctldPidFile={home}/slurmctld.pid
SlurmdPidFile={home}/slurmd.pid
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
SchedulerParameters=sched_interval=1,batch_sched_delay=0
KillWait=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=64000 State=UNKNOWN
PartitionName=cpu Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scancel", "squeue")


def program(name: str) -> str | None:
    """Where a program is: daemons are not on everybody's path."""
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")


def require_slurm() -> None:
    """Skip where SLURM is not installed, or nobody may start its daemons."""
    absent = [name for name in PROGRAMS if program(name) is None]
    if absent:
        pytest.skip(f"{absent[0]} is not installed (Debian: apt-get install slurm-wlm munge)")
    if os.geteuid() != 0:
        pytest.skip("SLURM's daemons run jobs of others: only root may start them")


def jobs() -> list[str]:
    """Numbers of the jobs that wait or run."""
    told = subprocess.run(["squeue", "-h", "-o", "%i"], capture_output=True, text=True, check=True)
    return told.stdout.split()


def all_ended() -> bool:
    """Whether no job is left: one that was cancelled is for a moment."""
    until = time.monotonic() + 20
    while jobs() and time.monotonic() < until:
        time.sleep(0.1)
    return not jobs()


@contextlib.contextmanager
def slurm(home: Path) -> Iterator[None]:
    """SLURM, in whose environment commands find it, and with munge to vouch for them."""
    require_slurm()
    for folder in ("state", "spool"):
        (home / folder).mkdir(parents=True)
    host = socket.gethostname().partition(".")[0]
    conf = home / "slurm.conf"
    conf.write_text(CONF.format(host=host, home=home, controller=free_port(), node=free_port()))
    key = home / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    munge = {"socket": "munge.socket", "pid-file": "munge.pid", "log-file": "munge.log"}
    options = [f"--{name}={home / file}" for name, file in munge.items()]
    daemons = [
        ["munged", "--foreground", "--force", f"--key-file={key}", *options,
         f"--seed-file={home / 'munge.seed'}"],
        ["slurmctld", "-D", "-c", "-f", str(conf)],
        ["slurmd", "-D", "-f", str(conf)],
    ]  # fmt: skip
    environment = os.environ | {"SLURM_CONF": str(conf)}
    running = []
    try:
        for command in daemons:
            with (home / f"{command[0]}.log").open("wb") as log:
                running.append(
                    subprocess.Popen(
                        [program(command[0]) or "", *command[1:]],
                        stdout=log, stderr=log, env=environment, start_new_session=True,
                    )
                )  # fmt: skip
            if command[0] == "munged":
                _wait(lambda: (home / "munge.socket").exists(), home)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SLURM_CONF", str(conf))
            _wait(_idle, home)
            yield
            subprocess.run(["scancel", "--user=root"], check=False)
            assert all_ended()
    finally:
        for process in reversed(running):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _idle() -> bool:
    told = subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True, check=False)
    return told.stdout.strip() == "idle"


def _wait(ready, home: Path) -> None:
    until = time.monotonic() + 60
    while not ready():
        logs = {p.name: p.read_text(errors="replace")[-500:] for p in home.glob("*.log")}
        assert time.monotonic() < until, logs
        time.sleep(0.1)
