"""Readouts: the default solver against the published protocol, and against its own arithmetic.

    python -m benchmarks.readouts [--quick] [--only solvers,sweep,...] [--neurons 600]
        [--recording PATH]

Sections: `solvers` (wall time and test FEVE of both), `selection` (penalties per neuron, shrunk
towards the population's, against one for all), `products` (the alternation against its matrix
products), `growth` (in neurons and images), `memory` (peak under a limit of 4 GB), `sweep` (12
blocks and extraction against the backbone in every batch). A recording in the Sensorium layout
adds a row to the first two, on Gabor responses.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from benchmarks.readout_problems import Features, planted, products_of_als, recorded
from benchmarks.solves import compare_products
from stages.backbones.backbone import create_backbone
from stages.backbones.settings import BackboneSettings
from stages.feve import VALID_FEV, fev_and_feve
from stages.readouts import AdamWSettings, ALSSettings, Readouts, fit_readouts

#: Neurons that the protocol's number of epochs is counted on.
STOP_NEURONS = 100

SECTIONS = ("solvers", "selection", "products", "growth", "memory", "sweep")


@dataclass(frozen=True)
class Sizes:
    """How large the synthetic problems are."""

    n_train: int = 4472
    n_validation: int = 522
    n_channels: int = 384
    neurons: tuple[int, ...] = (600, 1500)
    growth_neurons: tuple[int, int] = (500, 5000)
    growth_images: tuple[int, int] = (5000, 50_000)
    memory_images: int = 50_000

    def planted(self, n_neurons: int, *, n_train: int | None = None) -> Features:
        """A synthetic problem."""
        return planted(
            n_neurons=n_neurons,
            n_train=self.n_train if n_train is None else n_train,
            n_validation=self.n_validation,
            n_channels=self.n_channels,
        )


QUICK = Sizes(
    n_train=600,
    n_validation=100,
    n_channels=48,
    neurons=(20,),
    growth_neurons=(50, 500),
    growth_images=(500, 5000),
    memory_images=5000,
)


def gemm_rate(n: int = 2048) -> float:
    """Floating point operations per second of a float32 matrix product; the best of some."""
    a, b = torch.randn(n, n), torch.randn(n, n)
    return 2 * n**3 / min(seconds_of(lambda: a @ b) for _ in range(6))


def seconds_of(work: Callable[[], object]) -> float:
    """Wall seconds."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def fit(features: Features, solver: str = "als", **options: object) -> Readouts:
    """Readouts with the solver's defaults."""
    return fit_readouts(
        features.x_train, features.r_train, features.x_val, features.r_val,
        solver=solver, **options,  # type: ignore[arg-type]
    )  # fmt: skip


@dataclass(frozen=True)
class Clock:
    """Seconds of something: on the wall, and of all cores together."""

    wall: float
    cpu: float

    def __truediv__(self, other: Clock) -> str:
        return (
            f"{self.wall:.1f} s / {other.wall:.2f} s = {self.wall / other.wall:.0f}"
            f" (CPU time: {self.cpu / other.cpu:.0f})"
        )


def clocked(features: Features, solver: str = "als") -> tuple[Clock, Readouts]:
    """A fit with its time; CPU time is what counts where others keep the cores busy."""
    wall, cpu = time.perf_counter(), time.process_time()
    readouts = fit(features, solver)
    return Clock(time.perf_counter() - wall, time.process_time() - cpu), readouts


def mean_feve(features: Features, readouts: Readouts) -> float:
    """Mean test FEVE of the neurons with signal."""
    fev, feve = fev_and_feve(features.r_test, readouts.predict(features.x_test))
    return float(feve[fev > VALID_FEV].mean())


def compare_solvers(features: Features, neurons: Sequence[int], speed: float) -> None:
    """Both solvers to their own stop."""
    for number in neurons:
        part = features.of(number)
        als_time, als = clocked(part)
        adamw_time, adamw = clocked(part, "adamw")
        scores = mean_feve(part, als), mean_feve(part, adamw)
        row(
            f"{features.name}, {number} neurons: adamw / als",
            f"{adamw_time / als_time}, {len(adamw.curve)} epochs",
            f">= 100; at most {adamw_time.wall * speed / products_of_als(part):.0f} by products",
        )
        row(
            f"{features.name}, {number} neurons: test FEVE, als - adamw",
            f"{scores[0]:.4f} - {scores[1]:.4f} = {scores[0] - scores[1]:+.4f}",
            ">= 0",
        )


def compare_selections(features: Features) -> None:
    """Test FEVE of each way to choose penalties."""
    scores = {
        how: mean_feve(features, fit(features, settings=ALSSettings(selection=how)))
        for how in ("shrunk", "shared", "own")
    }
    row(
        f"{features.name}: test FEVE, penalties shrunk - shared (own)",
        f"{scores['shrunk']:.4f} - {scores['shared']:.4f} = "
        f"{scores['shrunk'] - scores['shared']:+.4f} ({scores['own']:.4f})",
        ">= 0",
    )


def compare_growth(sizes: Sizes, rate: float) -> None:
    """Seconds per neuron with more neurons, and seconds with more images."""
    few, many = sizes.growth_neurons
    features = sizes.planted(many)
    each = [1e3 * clocked(features.of(n))[0].wall / n for n in (few, many)]
    limit = 1e3 * products_of_als(features) / rate / many
    row(
        f"ms per neuron, {few} -> {many} neurons",
        f"{each[0]:.1f} -> {each[1]:.1f}",
        f"<= 2.5; at least {limit:.1f} by products",
    )
    few, many = sizes.growth_images
    seconds = [clocked(sizes.planted(200, n_train=n))[0].wall for n in (few, many)]
    row(
        f"seconds, {few} -> {many} images (200 neurons)",
        f"{seconds[0]:.1f} -> {seconds[1]:.1f} (x {seconds[1] / seconds[0]:.1f})",
        f"linear (<= x {many / few:.0f})",
    )


def measure_memory(sizes: Sizes) -> None:
    """Peak of a process of its own that holds float16 tokens and fits under a limit."""
    code = (
        "import resource, torch, numpy as np\n"
        "from stages.readouts import fit_readouts\n"
        "draw = np.random.default_rng(0)\n"
        f"n, shape = {sizes.memory_images}, (4, 8, {sizes.n_channels})\n"
        "x = np.empty((n, *shape), dtype=np.float16)\n"
        "for part in np.array_split(x, max(1, n // 500)):\n"
        "    part[:] = draw.standard_normal(part.shape, dtype=np.float32)\n"
        "r = draw.exponential(size=(n, 500)).astype(np.float32)\n"
        "fit_readouts(x[500:], r[500:], x[:500], r[:500], memory_limit=4 * 10**9)\n"
        "peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "import sys; print(peak * (1 if sys.platform == 'darwin' else 1024))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    peak = int(done.stdout.split()[-1])
    row(
        f"peak memory, {sizes.memory_images} x 32 x {sizes.n_channels}, 500 neurons",
        f"{peak / 1e9:.2f} GB", "<= 4 GB",
    )  # fmt: skip


def compare_sweep(sizes: Sizes) -> None:
    """12 blocks and a backbone: a pass per batch of every epoch, or one pass and twelve fits."""
    settings = BackboneSettings(name="vit_small_patch16_dinov3", weights="random")
    backbone = create_backbone(settings, input_size=(64, 128))
    batch = torch.rand(64, 3, 64, 128)
    backbone.tokens(batch)
    forward = min(seconds_of(lambda: backbone.tokens(batch)) for _ in range(3)) / len(batch)
    features = sizes.planted(sizes.neurons[-1])
    als = clocked(features)[0].wall
    started, epochs = time.perf_counter(), 2
    fit(features, "adamw", settings=AdamWSettings(max_epochs=epochs))
    epoch = (time.perf_counter() - started) / epochs
    # How many epochs the protocol needs hardly depends on how many neurons there are.
    stopped = fit(features.of(STOP_NEURONS), "adamw")
    n_images = sizes.n_train + sizes.n_validation
    theirs = 12 * len(stopped.curve) * (n_images * forward + epoch)
    ours = n_images * forward + 12 * als
    row(
        f"sweep of 12 blocks, {sizes.neurons[-1]} neurons: pass per batch / ours",
        f"{theirs:.0f} s ({len(stopped.curve)} epochs) / {ours:.0f} s = {theirs / ours:.0f}",
        ">= 500",
    )


def row(what: str, measured: str, target: str) -> None:
    """One line of the table."""
    print(f"| {what} | {measured} | {target} |", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small problems: does it run?")
    parser.add_argument(
        "--recording",
        type=Path,
        default=os.environ.get("VITV1_RECORDING"),
        help="in the Sensorium layout; by default what VITV1_RECORDING names",
    )
    parser.add_argument("--only", default=",".join(SECTIONS), help="comma-separated sections")
    parser.add_argument("--neurons", help="numbers of neurons of `solvers`, such as 600,1500")
    parser.add_argument("--threads", type=int, help="by default what torch takes")
    options = parser.parse_args(arguments)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    chosen = options.only.split(",")
    unknown = set(chosen) - set(SECTIONS)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: choose from {', '.join(SECTIONS)}")
    sizes = QUICK if options.quick else Sizes()
    if options.neurons is not None:
        sizes = replace(sizes, neurons=tuple(int(n) for n in options.neurons.split(",")))
    rate = gemm_rate()
    print(f"{torch.get_num_threads()} threads, float32 products at {rate / 1e9:.0f} Gflop/s\n")
    print("| what | measured | target |\n|---|---|---|")
    if "products" in chosen:
        compare_products(sizes.planted(sizes.neurons[-1]), rate, row)
    if "growth" in chosen:
        compare_growth(sizes, rate)
    if "memory" in chosen:
        measure_memory(sizes)
    if "sweep" in chosen:
        compare_sweep(sizes)
    problems = [sizes.planted(sizes.neurons[-1])] if {"solvers", "selection"} & {*chosen} else []
    if problems and options.recording is not None:
        problems.append(recorded(options.recording))
    for problem in problems:
        if "selection" in chosen:
            compare_selections(problem)
        if "solvers" in chosen:
            compare_solvers(problem, sizes.neurons, rate)


if __name__ == "__main__":
    main()
