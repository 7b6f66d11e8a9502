"""Extraction beside its forward passes alone, and beside finer tokens, in turns.

    python -m benchmarks.extraction [--images 2300] [--times 3]

The demo's tokens: ViT-S/16 with random weights, 64 x 128 pixels, float16. Ratios of the fastest of
some wall times, with the limits that they are to keep; and of core seconds, which a busy machine
changes less. Passes alone are given a batch at a time to all of torch's threads.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from benchmarks.cache_format import Demo, demo, extract_seconds
from stages.backbones.backbone import BATCH

#: Wall times relative to passes alone: of extraction in this process, and of the whole command;
#: and the time of an image with four shifted passes relative to one.
IN_PROCESS, COMMAND, SHIFTED = 1.10, 1.15, 4.2

DEMO = Path(__file__).parents[2] / "pipeline/experiments/demo.toml"


class Times:
    """The fastest of several measurements: wall and core seconds, those of children included."""

    def __init__(self) -> None:
        self.wall = self.core = float("inf")

    def measure(self, work: Callable[[], object]) -> None:
        """Do some work once more."""
        wall, core = time.perf_counter(), _core_seconds()
        work()
        self.wall = min(self.wall, time.perf_counter() - wall)
        self.core = min(self.core, _core_seconds() - core)


def _core_seconds() -> float:
    return sum(psutil.Process().cpu_times()[:4])


def forward(case: Demo, n_images: int) -> None:
    """Prepare images and compute their tokens, and nothing else."""
    for first in range(0, n_images, BATCH):
        ids = case.stimuli.ids[first : min(first + BATCH, n_images)]
        case.backbone.tokens(case.preprocessing(case.stimuli.read(ids)))


def extract(case: Demo, folder: Path, n_images: int) -> None:
    """Extract into a store of its own, until it is durable."""
    extract_seconds(case, folder / "some.zarr", n_images)
    shutil.rmtree(folder / "some.zarr")


def whole_command(folder: Path, n_images: int) -> None:
    """`vitv1 extract` of the demo in a process of its own."""
    settings = (
        f"run.output={folder / 'run'}", "run.device=cpu", "run.workers=1",
        f"recording.synthetic.n_training={n_images - 300}",
    )  # fmt: skip
    command = [sys.executable, "-m", "pipeline", "extract", str(DEMO), "--quiet"]
    options = [text for setting in settings for text in ("--set", setting)]
    environment = os.environ | {"PYTHONPATH": str(DEMO.parents[2])}
    subprocess.run([*command, *options], check=True, env=environment)
    shutil.rmtree(folder / "run")


def told(what: str, one: Times, other: Times, limit: float) -> None:
    """Print a ratio."""
    print(
        f"{what}: {one.wall:.1f} s / {other.wall:.1f} s = {one.wall / other.wall:.2f} "
        f"(limit {limit}), core seconds {one.core / other.core:.2f}",
        flush=True,
    )


def main() -> None:
    """Measure in turns, and print the ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=2_300)
    parser.add_argument("--times", type=int, default=3)
    options = parser.parse_args()
    n_images = options.images
    plain, fine = demo(n_images), demo(n_images, stride=8)
    alone, inside, command, shifted = Times(), Times(), Times(), Times()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for _ in range(options.times):
            alone.measure(lambda: forward(plain, n_images))
            inside.measure(lambda: extract(plain, folder, n_images))
            command.measure(lambda: whole_command(folder, n_images))
            shifted.measure(lambda: extract(fine, folder, n_images))
    told("extraction / passes alone", inside, alone, IN_PROCESS)
    told("the whole command / passes alone", command, alone, COMMAND)
    told("shifted passes at stride 8 / extraction", shifted, inside, SHIFTED)


if __name__ == "__main__":
    main()
