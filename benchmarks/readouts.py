"""Stage two: the default solver against the published protocol, and against its own arithmetic.

    python -m benchmarks.readouts [--quick] [--recording PATH] [--only solvers,sweep,...]

Sections: `solvers` (wall time and test FEVE of both solvers on the same features), `products` (time
of the alternation against the matrix products it cannot avoid), `growth` (in neurons and in
images), `memory` (peak under a limit of 4 GB), `sweep` (12 blocks, extraction included, against a
loop that runs the backbone in every batch). A recording in the Sensorium layout adds a row to
`solvers`, on rectified Gabor responses.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.gabor import gabor_features
from stages.backbones import create_backbone
from stages.feve import VALID_FEV, fev_and_feve
from stages.readouts import Readouts, fit_readouts
from stages.recordings import sensorium
from stages.settings import AdamWSettings, BackboneSettings
from stages.solvers.alternation import AlternatingLeastSquares

#: Neurons that the protocol's number of epochs is counted on.
STOP_NEURONS = 100

SECTIONS = ("solvers", "products", "growth", "memory", "sweep")


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


QUICK = Sizes(
    n_train=600,
    n_validation=100,
    n_channels=48,
    neurons=(20,),
    growth_neurons=(50, 500),
    growth_images=(500, 5000),
    memory_images=5000,
)


@dataclass(frozen=True)
class Features:
    """Tokens and responses of one problem; `r_test` has repeats, (image, repeat, neuron)."""

    name: str
    x_train: NDArray[np.generic]
    r_train: NDArray[np.float32]
    x_val: NDArray[np.generic]
    r_val: NDArray[np.float32]
    x_test: NDArray[np.generic]
    r_test: NDArray[np.float32]

    def of(self, n_neurons: int) -> Features:
        """The same with the first neurons."""
        some = slice(n_neurons)
        return Features(
            self.name,
            self.x_train,
            self.r_train[:, some],
            self.x_val,
            self.r_val[:, some],
            self.x_test,
            self.r_test[..., some],
        )


def planted(sizes: Sizes, n_neurons: int, *, n_train: int | None = None, seed: int = 0) -> Features:
    """Tokens whose spectrum falls as a ViT's, and neurons that read them, half of it noise."""
    n_train = sizes.n_train if n_train is None else n_train
    n_test, n_repeats, rows, columns = 100, 10, 4, 8
    draw = np.random.default_rng(seed)
    n = n_train + sizes.n_validation + n_test
    falling = np.arange(1, sizes.n_channels + 1, dtype=np.float32) ** -0.75
    basis = np.linalg.qr(draw.standard_normal((sizes.n_channels,) * 2))[0].astype(np.float32)
    x = np.empty((n, rows, columns, sizes.n_channels), dtype=np.float16)
    for first in range(0, n, 1000):
        part = draw.standard_normal((len(x[first : first + 1000]), rows, columns, sizes.n_channels))
        # Neighbouring patches have much in common.
        part = part + part.mean(axis=(1, 2), keepdims=True) * 3
        x[first : first + 1000] = (part.astype(np.float32) * falling) @ basis
    row, column = (
        np.exp(-((np.arange(size) - draw.uniform(0, size - 1, (n_neurons, 1))) ** 2))
        for size in (rows, columns)
    )
    channel = np.zeros((n_neurons, sizes.n_channels))
    channel[:, :12] = draw.standard_normal((n_neurons, 12))
    channel = channel @ basis
    space = (row[:, :, None] * column[:, None]).reshape(n_neurons, -1).astype(np.float32)
    z = np.concatenate(
        [
            np.einsum("npm,mp->nm", part.reshape(len(part), rows * columns, -1) @ channel.T, space)
            for part in np.array_split(x.astype(np.float32), max(1, n // 500))
        ]
    )
    z *= 0.85 / z.std(axis=0)
    rates = np.where(z > 0, z + 1, np.exp(np.minimum(z, 0)))
    shape = 1 / rates.var(axis=0)  # of gamma noise whose variance is that of the rates

    def respond(mean: NDArray[np.float64]) -> NDArray[np.float32]:
        noise = draw.gamma(shape, size=mean.shape) / shape
        responses: NDArray[np.float32] = (mean * noise).astype(np.float32)
        return responses

    train, val = np.split(np.arange(n - n_test), [n_train])
    test = np.arange(n - n_test, n)
    repeated = np.broadcast_to(rates[test][:, None], (n_test, n_repeats, n_neurons))
    return Features(
        "synthetic", x[train], respond(rates[train]), x[val], respond(rates[val]),
        x[test], respond(repeated),
    )  # fmt: skip


def recorded(path: Path) -> Features:
    """Gabor features of a recording in the Sensorium layout."""
    recording = sensorium.read_recording(path, name="recording")
    stimuli = sensorium.read_stimuli(path)
    ids = recording.all_image_ids
    tokens = gabor_features(stimuli.read(ids))
    rows = np.searchsorted(ids, recording.image_ids)
    held_out = recording.validation
    return Features(
        "recording", tokens[rows[~held_out]], recording.responses[~held_out],
        tokens[rows[held_out]], recording.responses[held_out],
        tokens[np.searchsorted(ids, recording.test_image_ids)], recording.test_responses,
    )  # fmt: skip


def gemm_rate(n: int = 2048) -> float:
    """Floating point operations per second of a float32 matrix product; the best of some."""
    a, b = torch.randn(n, n), torch.randn(n, n)
    return 2 * n**3 / min(seconds_of(lambda: a @ b) for _ in range(6))


def seconds_of(work: Callable[[], object]) -> float:
    """Wall seconds."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def fit(features: Features, solver: str = "als", **options: object) -> tuple[float, Readouts]:
    """Seconds of a fit with the solver's defaults, and the readouts."""
    started = time.perf_counter()
    readouts = fit_readouts(
        features.x_train, features.r_train, features.x_val, features.r_val,
        solver=solver, **options,  # type: ignore[arg-type]
    )  # fmt: skip
    return time.perf_counter() - started, readouts


def mean_feve(features: Features, readouts: Readouts) -> float:
    """Mean test FEVE of the neurons with signal."""
    fev, feve = fev_and_feve(features.r_test, readouts.predict(features.x_test))
    return float(feve[fev > VALID_FEV].mean())


def compare_solvers(features: Features, neurons: Sequence[int]) -> None:
    """Both solvers to their own stop."""
    for number in neurons:
        part = features.of(number)
        als_seconds, als = fit(part)
        adamw_seconds, adamw = fit(part, "adamw")
        scores = mean_feve(part, als), mean_feve(part, adamw)
        row(
            f"{features.name}, {number} neurons: adamw / als",
            f"{adamw_seconds:.1f} s ({len(adamw.curve)} epochs) / {als_seconds:.2f} s"
            f" = {adamw_seconds / als_seconds:.0f}",
            ">= 50",
        )
        row(
            f"{features.name}, {number} neurons: test FEVE, als - adamw",
            f"{scores[0]:.4f} - {scores[1]:.4f} = {scores[0] - scores[1]:+.4f}",
            ">= 0",
        )


def compare_products(features: Features, rate: float) -> None:
    """Time of all solves against the products in them, counted."""
    operations = seconds = 0.0
    channels, solve = AlternatingLeastSquares.channels, AlternatingLeastSquares.solve

    def counted(self: AlternatingLeastSquares, cross: torch.Tensor, *rest: object) -> object:
        nonlocal operations
        # Both contractions of the pair statistics, with space and with channels.
        operations += 2 * 2 * len(cross) * self.gram.numel()
        return channels(self, cross, *rest)  # type: ignore[arg-type]

    def clocked(self: AlternatingLeastSquares, *rest: object) -> object:
        nonlocal seconds
        started = time.perf_counter()
        result = solve(self, *rest)  # type: ignore[arg-type]
        seconds += time.perf_counter() - started
        return result

    with (
        mock.patch.object(AlternatingLeastSquares, "channels", counted),
        mock.patch.object(AlternatingLeastSquares, "solve", clocked),
    ):
        fit(features)
    least = operations / rate
    n_neurons = features.r_train.shape[1]
    row(
        f"solves / products, {n_neurons} neurons",
        f"{seconds:.2f} s / {least:.2f} s ({operations / 1e9:.0f} Gflop) = {seconds / least:.1f}",
        "<= 3",
    )


def compare_growth(sizes: Sizes) -> None:
    """Seconds per neuron with more neurons, and seconds with more images."""
    few, many = sizes.growth_neurons
    features = planted(sizes, many)
    each = [1e3 * fit(features.of(n))[0] / n for n in (few, many)]
    row(
        f"ms per neuron, {few} -> {many} neurons",
        f"{each[0]:.1f} -> {each[1]:.1f}", "falls",
    )  # fmt: skip
    few, many = sizes.growth_images
    seconds = [fit(planted(sizes, 200, n_train=n))[0] for n in (few, many)]
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
    features = planted(sizes, sizes.neurons[-1])
    als, _ = fit(features)
    started, epochs = time.perf_counter(), 2
    fit(features, "adamw", settings=AdamWSettings(max_epochs=epochs))
    epoch = (time.perf_counter() - started) / epochs
    # How many epochs the protocol needs hardly depends on how many neurons there are.
    _, stopped = fit(features.of(STOP_NEURONS), "adamw")
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
    parser.add_argument("--recording", type=Path, help="in the Sensorium layout")
    parser.add_argument("--only", default=",".join(SECTIONS), help="comma-separated sections")
    parser.add_argument("--threads", type=int, help="by default what torch takes")
    options = parser.parse_args(arguments)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    chosen = options.only.split(",")
    unknown = set(chosen) - set(SECTIONS)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: choose from {', '.join(SECTIONS)}")
    sizes = QUICK if options.quick else Sizes()
    rate = gemm_rate()
    print(f"{torch.get_num_threads()} threads, float32 products at {rate / 1e9:.0f} Gflop/s\n")
    print("| what | measured | target |\n|---|---|---|")
    if "products" in chosen:
        compare_products(planted(sizes, sizes.neurons[-1]), rate)
    if "growth" in chosen:
        compare_growth(sizes)
    if "memory" in chosen:
        measure_memory(sizes)
    if "sweep" in chosen:
        compare_sweep(sizes)
    if "solvers" in chosen:
        compare_solvers(planted(sizes, sizes.neurons[-1]), sizes.neurons)
        if options.recording is not None:
            compare_solvers(recorded(options.recording), sizes.neurons)


if __name__ == "__main__":
    main()
