"""Scale: dask against local workers, kills, and memory under a limit.

    python -m benchmarks.scale [--quick] [--only overhead,kills,memory]

Sections: `overhead` (the same divided fit on two local processes and on two dask workers), `kills`
(kill -9 of a worker in the middle, 20 times), `memory` (20 GB of tokens, made up as they are read,
under a limit of 4 GB: peak of all processes together, and throughput against no limit).
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from support.clusters import worker_pids

from benchmarks.made_up_tokens import MadeUpTask, fit_made_up
from benchmarks.noise_cache import noise_fit
from stages.executors.dask import DaskExecutor, dask_executor
from stages.executors.executor import Executor, LocalExecutor
from stages.fit.distributed import fit_divided
from stages.fit.run import fit_condition
from stages.fit.task import FitTask

SECTIONS = ("overhead", "kills", "memory")


@dataclass(frozen=True)
class Sizes:
    """How large the problems are."""

    n_images: int = 12_000
    n_neurons: int = 9000
    kills: int = 20
    memory_bytes: int = 20 * 10**9


QUICK = Sizes(
    n_images=3000,
    n_neurons=300,
    kills=3,
    memory_bytes=2 * 10**9,
)


def timed(work: Callable[[], object]) -> float:
    """Seconds."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def divided(task: FitTask, executor: Executor, folder: Path, *, kill: int | None = None) -> object:
    """One condition in parts; a worker is killed after so many of them."""
    done: list[int] = []

    def progress(number: int) -> None:
        done.append(number)
        if kill == len(done) and isinstance(executor, DaskExecutor):
            os.kill(random.Random(kill).choice(worker_pids()), signal.SIGKILL)

    with tempfile.TemporaryDirectory(dir=folder) as parts:
        return fit_divided(task, executor, folder=Path(parts), progress=progress)


def overhead(sizes: Sizes, folder: Path) -> None:
    """Wall time on two dask workers against two local processes, both warm."""
    task = noise_fit(folder, n_images=sizes.n_images, n_neurons=sizes.n_neurons)
    warm = noise_fit(folder, n_images=3000, n_neurons=20)
    local = LocalExecutor(2, folder=folder)
    with dask_executor(
        folder=folder, scheduler="local", batch=None, workers=2, memory_limit=None
    ) as dask:
        seconds = {}
        for name, executor in (("local", local), ("dask", dask)):
            divided(warm, executor, folder)
            seconds[name] = timed(lambda executor=executor: divided(task, executor, folder))
    ratio = seconds["dask"] / seconds["local"]
    print(f"local {seconds['local']:.1f} s, dask {seconds['dask']:.1f} s: ratio {ratio:.3f}")


def kills(sizes: Sizes, folder: Path) -> None:
    """Results after a worker was killed in the middle, against those of one process."""
    task = noise_fit(folder, n_images=4700, n_neurons=1200, n_channels=48)
    whole = fit_condition(task).columns["feve"]
    worst = 0.0
    with dask_executor(
        folder=folder, scheduler="local", batch=None, workers=2, memory_limit=None
    ) as dask:
        for number in range(sizes.kills):
            fitted = divided(task, dask, folder, kill=1 + number % 9)
            worst = max(worst, float(np.abs(fitted.columns["feve"] - whole).max()))
    print(f"{sizes.kills} runs with a killed worker ended; FEVE differs by {worst:.1e} at most")


def memory(sizes: Sizes, folder: Path) -> None:
    """Peak of all processes under 4 GB, and throughput against workers without a limit."""
    n_trials = sizes.memory_bytes // (2 * 2 * 4 * 8 * 384)
    print(f"two workers, {n_trials} trials of 24.6 kB each")
    seconds = []
    for limit in (4 * 10**9, None):
        executor = LocalExecutor(2, folder=folder, memory_limit=limit)
        tasks = [MadeUpTask(n_trials, executor.task_memory)] * 2
        with peak_memory() as peak:
            seconds.append(max(took for _, took in executor.map(fit_made_up, tasks)))
        print(f"limit {limit}: {seconds[-1]:.0f} s, peak {max(peak) / 1e9:.2f} GB (sum of PSS)")
    print(f"throughput with the limit: {seconds[1] / seconds[0]:.3f} of that without")


@contextmanager
def peak_memory() -> Iterator[list[int]]:
    """Proportional set sizes of this process and all below it, summed, every quarter second."""
    seen, over = [0], threading.Event()

    def watch() -> None:
        here = psutil.Process()
        while not over.wait(0.25):
            total = 0
            for process in (here, *here.children(recursive=True)):
                with suppress(psutil.Error):
                    total += process.memory_full_info().pss
            seen.append(total)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def main() -> None:
    """Run the chosen sections."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small problems")
    parser.add_argument("--folder", help="for caches; the system's temporary folder by default")
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, comma-separated")
    arguments = parser.parse_args()
    sizes = QUICK if arguments.quick else Sizes()
    sections = {"overhead": overhead, "kills": kills, "memory": memory}
    for name in arguments.only.split(","):
        print(f"\n{name}", flush=True)
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            sections[name](sizes, Path(folder))


if __name__ == "__main__":
    main()
