"""The cost model: rates fitted to small runs, and what they predict of runs 8 times larger.

    python -m benchmarks.costs [--quick]

Each run is a process of its own: its core seconds (the better of two; tokens are read beside the
computing, so wall time is shorter where a core is free), the bytes that it read, and its peak
memory. The last line is the wall time of a fit that two local workers share.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
from scipy.optimize import nnls

from benchmarks.noise_cache import noise_fit
from stages.costs import Cost
from stages.executors.executor import LocalExecutor
from stages.fit.distributed import fit_divided
from stages.fit.inputs import TaskSource
from stages.fit.run import fit_condition
from stages.fit.task import FitTask
from stages.readouts import ALSSettings, FitSize
from stages.readouts.als.cost import als_cost, als_operations
from stages.readouts.core_speed import RATES


class Sizes(NamedTuple):
    """One run's problem."""

    images: int
    neurons: int
    channels: int
    components: int
    divided: bool = False


#: They differ in what takes the time: products of tokens grow with the components squared, products
#: of neurons and tokens with neurons, what is read with channels.
SMALL = (
    Sizes(1500, 100, 384, 96),
    Sizes(1500, 1000, 384, 32),
    Sizes(3000, 100, 384, 96),
    Sizes(3000, 100, 384, 32),
    Sizes(3000, 500, 384, 96),
    Sizes(3000, 1000, 192, 48),
    Sizes(4500, 300, 384, 96),
    Sizes(3000, 300, 768, 64),
    Sizes(1500, 1000, 384, 96),
    Sizes(2000, 1100, 384, 32, divided=True),
    Sizes(2000, 1100, 768, 32, divided=True),
    Sizes(3000, 1100, 384, 96, divided=True),
)
LARGE = (
    Sizes(24_000, 500, 384, 96),
    Sizes(3000, 4000, 384, 96),
    # Sizes that the rates in use were not chosen on.
    Sizes(20_000, 800, 192, 64),
    Sizes(2000, 3200, 768, 48),
    Sizes(16_000, 250, 768, 96),
    Sizes(8000, 2400, 192, 32),
)
SHARED = Sizes(12_000, 4000, 384, 96, divided=True)

QUICK_SMALL = tuple(
    Sizes(n, m, 96, k) for n, m, k in [(1100, 50, 32), (1100, 300, 32), (2200, 100, 16)]
)
QUICK_LARGE = (Sizes(8800, 200, 96, 32),)
QUICK_SHARED = Sizes(2200, 1100, 96, 32, divided=True)


#: What a rate that is twice the one in use weighs, in relative errors of one run.
CHANGE = 0.1


class Measured(NamedTuple):
    """What one run took."""

    core_seconds: float
    n_bytes: int
    memory: int


def task_of(sizes: Sizes, folder: Path) -> FitTask:
    """The run's fit."""
    task = noise_fit(
        folder, n_images=sizes.images, n_neurons=sizes.neurons, n_channels=sizes.channels
    )
    return replace(task, settings=replace(task.settings, als=settings_of(sizes)))


def settings_of(sizes: Sizes) -> ALSSettings:
    """The run's solver."""
    return ALSSettings(max_components=sizes.components)


def size_of(sizes: Sizes, folder: Path) -> FitSize:
    """The same as the cost model has it."""
    return TaskSource(task_of(sizes, folder)).size


def measure_here(sizes: Sizes, folder: Path) -> Measured:
    """Fit twice in this process, after a fit that warms it up."""
    task, process = task_of(sizes, folder), psutil.Process()
    fit_condition(task_of(Sizes(1100, 20, 96, 16), folder))
    executor = LocalExecutor(1, folder=folder)
    seconds, n_bytes = [], []
    for number in range(2):
        before, started = process.io_counters().read_chars, time.process_time()
        if sizes.divided:
            parts = folder / f"{os.getpid()}-{number}"
            fit_divided(task, executor, folder=parts, progress=lambda n: None)
        else:
            fit_condition(task)
        seconds.append(time.process_time() - started)
        n_bytes.append(process.io_counters().read_chars - before)
    status = Path("/proc/self/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return Measured(min(seconds), min(n_bytes), 1024 * int(peak.split()[1]))


def measure(sizes: Sizes, folder: Path) -> Measured:
    """Fit in a process of its own."""
    task_of(sizes, folder)  # makes the cache
    command = [sys.executable, "-m", "benchmarks.costs", "--run", json.dumps(sizes)]
    told = subprocess.run(
        [*command, "--folder", str(folder)], check=True, capture_output=True, text=True
    )
    return Measured(*json.loads(told.stdout))


def fitted_rates(
    runs: Sequence[Sizes], sizes: Sequence[FitSize], seconds: Sequence[float]
) -> dict[str, float]:
    """Non-negative rates whose relative errors are smallest.

    Where small runs cannot tell rates apart, they differ little from those in use.
    """
    operations = [
        sum(als_operations(size, settings_of(run), divided=run.divided), Counter[str]())
        for run, size in zip(runs, sizes, strict=True)
    ]
    names = [name for name in RATES if name != "bytes spilled"]  # nothing was
    counts = np.array([[each[name] for name in names] for each in operations])
    errors = counts / np.array(seconds)[:, None]
    changes = CHANGE * np.diag([1 / RATES[name] for name in names])
    wanted = np.r_[np.ones(len(seconds)), np.full(len(names), CHANGE)]
    found, _ = nnls(np.r_[errors, changes], wanted)
    return dict(zip(names, found.tolist(), strict=True)) | {"bytes spilled": RATES["bytes spilled"]}


def main() -> None:
    """Measure, fit, predict, and compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small problems")
    parser.add_argument("--folder", help="for caches; the system's temporary folder by default")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run is not None:
        print(json.dumps(measure_here(Sizes(*json.loads(given.run)), Path(given.folder))))
        return
    small, large, shared = (
        (QUICK_SMALL, QUICK_LARGE, QUICK_SHARED) if given.quick else (SMALL, LARGE, SHARED)
    )
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        seconds = [measure(each, folder).core_seconds for each in small]
        rates = fitted_rates(small, [size_of(each, folder) for each in small], seconds)
        print("seconds per billion:", ", ".join(f"{n} {r:.4g}" for n, r in rates.items()))
        for each, took in zip(small, seconds, strict=True):
            size = size_of(each, folder)
            told = als_cost(size, settings_of(each), divided=each.divided, rates=rates).core_seconds
            print(f"  {tuple(each)}: {took:.2f} s, fitted {told / took:.2f}")
        print(
            "predicted / measured, of runs 8 times larger (images, neurons, channels, components):"
        )
        for each in large:
            size, took = size_of(each, folder), measure(each, folder)
            told = als_cost(size, settings_of(each), rates=rates)
            print(f"  {tuple(each)}: {_ratios(told, took)}")
            in_use = als_cost(size, settings_of(each)).core_seconds / took.core_seconds
            print(f"    time by the rates in use: {in_use:.2f}")
        took = shared_seconds(task_of(shared, folder), folder)
        fitted, in_use = (
            als_cost(
                size_of(shared, folder), settings_of(shared), divided=True, rates=each
            ).seconds(2)
            / took
            for each in (rates, RATES)
        )
        print(f"  {tuple(shared)}, two workers: wall time {fitted:.2f} ({took:.1f} s)")
        print(f"    time by the rates in use: {in_use:.2f}")


def shared_seconds(task: FitTask, folder: Path) -> float:
    """Wall time of a fit on two workers, which know their work already."""
    executor = LocalExecutor(2, folder=folder / "shared")
    warm = task_of(Sizes(3000, 20, 96, 16), folder)
    started = 0.0
    for number, each in enumerate((warm, task)):
        started = time.perf_counter()
        fit_divided(each, executor, folder=folder / f"parts-{number}", progress=lambda n: None)
    return time.perf_counter() - started


def _ratios(told: Cost, took: Measured) -> str:
    return (
        f"time {told.core_seconds / took.core_seconds:.2f} ({took.core_seconds:.1f} s), "
        f"bytes {told.n_bytes / took.n_bytes:.2f} ({took.n_bytes / 1e9:.2f} GB), "
        f"memory {told.memory / took.memory:.2f} ({took.memory / 1e9:.2f} GB)"
    )


if __name__ == "__main__":
    main()
