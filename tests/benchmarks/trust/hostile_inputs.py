"""Commands on hostile inputs, in processes of their own: memory, silence, harm and secrets."""

from __future__ import annotations

import os
import resource
import select
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from support.faults import make_store
from support.hostile import answering
from support.tiny import write_experiment

from benchmarks.trust.hostile_files import TRAP, caches, experiments
from benchmarks.trust.hostile_servers import ANSWERS

#: Bytes more than the same command takes of a harmless input, and seconds without a word.
MOST_BYTES, MOST_SECONDS = 500 * 10**6, 60
#: Commands at a time; most wait for a server.
AT_ONCE = 4
#: Bytes at which a command is stopped, so that it harms no other.
STOPPED = 4 * 10**9

#: Runs a command and notes the most memory that it had.
_LAUNCH = """
import sys
from pipeline.cli.main import main
code = main(sys.argv[2:])
status = open("/proc/self/status").read()
open(sys.argv[1], "w").write(status.partition("VmHWM:")[2].split()[0])
sys.exit(code)
"""


@dataclass(frozen=True)
class Attack:
    """A command line on a hostile input."""

    name: str
    arguments: Sequence[str]


@dataclass(frozen=True)
class Observed:
    """Bytes that a command took (None where it was stopped), its longest silence, and its words."""

    n_bytes: int | None
    silence: float
    said: str


def hostile_trials(
    folder: Path, n_inputs: int, *, seed: int = 0, quick: bool = False
) -> Counter[str]:
    """Run commands on hostile servers, caches, recordings, weights and experiment files.

    Counts commands, and those that took too much memory, said nothing for too long, ran code of the
    input, or showed a secret. `quick` leaves out what waits for a server, and most others.
    """
    names = ("commands", "over 500 MB", "over 60 s silent", "code run", "secret shown")
    counts = Counter(dict.fromkeys(names, 0))
    rng = np.random.default_rng(seed)
    with ExitStack() as stack:
        attacks = list(_attacks(folder, stack, quick=quick))
        chosen = [attacks[i % len(attacks)] for i in rng.permutation(max(n_inputs, len(attacks)))]
        store, experiment = make_store(folder / "h.zarr"), write_experiment(folder / "harmless")
        harmless = {
            "cache": _observe(folder, "h0", ["cache", "verify", str(store)]),
            "run": _observe(folder, "h1", ["run", "--dry-run", str(experiment)]),
        }
        harmless["extract"] = harmless["run"]

        def one(numbered: tuple[int, Attack]) -> tuple[Attack, Observed]:
            number, attack = numbered
            return attack, _observe(folder, str(number), attack.arguments)

        with ThreadPoolExecutor(AT_ONCE) as pool:
            for attack, observed in pool.map(one, enumerate(chosen[:n_inputs])):
                usual = harmless[attack.arguments[0]].n_bytes or 0
                counts["commands"] += 1
                for what in _verdict(observed, usual):
                    counts[what] += 1
                    print(f"{what}: {attack.name}: {observed}"[:1500], flush=True)
    harm = [path for path in folder.rglob(TRAP) if path.is_file()]
    if harm or Path(TRAP).exists():
        counts["code run"] += max(1, len(harm))
        print(f"code run: {harm}", flush=True)
    return counts


def _verdict(observed: Observed, usual: int) -> list[str]:
    """Names of the promises that a command did not keep."""
    verdict = {
        "over 500 MB": observed.n_bytes is None or observed.n_bytes > usual + MOST_BYTES,
        "over 60 s silent": observed.silence > MOST_SECONDS,
        "secret shown": "s3cr3t" in observed.said or "\x1b[2J" in observed.said,
    }
    return [what for what, bad in verdict.items() if bad]


def _attacks(folder: Path, stack: ExitStack, *, quick: bool) -> list[Attack]:
    """Every attack; servers run until the stack ends."""
    found = []
    for name, answer in ANSWERS.items():
        if quick and name not in ("gzip bomb", "endless"):
            continue
        url = f"{stack.enter_context(answering(answer))}/a.zarr?key=s3cr3t"
        for number, command in enumerate((["info"], ["verify"], ["pull"])[: 1 if quick else 3]):
            to = [str(folder / f"{name} {number}.zarr")] if command == ["pull"] else []
            found.append(Attack(f"server {name}", ["cache", *command, url, *to]))
    (folder / "files").mkdir()
    if not quick:
        for name, path in caches(folder / "files"):
            for command in ("info", "verify"):
                found.append(Attack(f"cache: {name}", ["cache", command, str(path)]))
    for name, path, options in experiments(folder / "files"):
        if quick and name not in ("prologue", "checkpoint", "pickle"):
            continue
        command = options if "extract" in options else ["run", "--dry-run", *options]
        found.append(Attack(f"experiment: {name}", [*command, str(path)]))
    return found


def _observe(folder: Path, name: str, arguments: Sequence[str]) -> Observed:
    """Run a command until its end, or until it was silent for longer than it may be."""
    noted = folder / f"{name}.peak"
    process = subprocess.Popen(
        [sys.executable, "-c", _LAUNCH, str(noted), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (STOPPED, STOPPED)),
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        cwd=folder,
    )
    assert process.stdout is not None
    said, silence, last = b"", 0.0, time.monotonic()
    while silence <= MOST_SECONDS:
        if select.select([process.stdout], [], [], 1)[0]:
            part = os.read(process.stdout.fileno(), 2**16)
            if not part:
                break
            said, last = said + part, time.monotonic()
        silence = max(silence, time.monotonic() - last)
    process.kill()
    process.wait()
    n_bytes = int(noted.read_text()) * 1024 if noted.exists() else None
    return Observed(n_bytes, silence, said.decode(errors="replace"))
