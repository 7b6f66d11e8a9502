"""Costs and gains of the cache's format: codecs, rounding, chunks, reading, buffers of writing.

    python -m benchmarks.cache_format [--images 2300]

prints the tables of `cache/FORMAT.md`, on the demo's tokens: ViT-S/16 with random weights, 1/f
images, 64 x 128 pixels, float16.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.cache_codecs import best, compare_codecs, round_bits
from cache import Layout, TokenShape, open_cache, plan_layout, write_cache
from stages.backbones.backbone import Backbone, create_backbone
from stages.backbones.settings import BackboneSettings
from stages.extract import Extraction, extract_task
from stages.feve import VALID_FEV, fev_and_feve
from stages.readouts.solvers import fit_readouts
from stages.recordings import SyntheticSettings, synthetic_recording, synthetic_stimuli
from stages.stimuli.preprocessing import Preprocessing
from stages.stimuli.stimuli import Stimuli

#: Blocks whose tokens are compressed: the first, the planted, the last.
BLOCKS = (0, 4, 11)


@dataclass(frozen=True)
class Demo:
    """The demo's backbone and images."""

    backbone: Backbone
    stimuli: Stimuli
    synthetic: SyntheticSettings
    preprocessing: Preprocessing


def demo(n_images: int, name: str = "vit_small_patch16_224.dino", **more: Any) -> Demo:
    """The demo, with fewer training images where fewer are asked for; `more` is of its backbone."""
    full = SyntheticSettings()
    synthetic = replace(full, n_training=n_images - full.n_validation - full.n_test)
    backbone = create_backbone(
        BackboneSettings(name=name, weights="random", **more),
        input_size=(64, 128),
    )
    preprocessing = Preprocessing(
        crop=(0, 128), input_size=(64, 128), mean=backbone.mean, std=backbone.std
    )
    return Demo(backbone, synthetic_stimuli(synthetic), synthetic, preprocessing)


def extract_seconds(case: Demo, path: Path, n_images: int) -> float:
    """A whole extraction, until it is durable."""
    began = time.perf_counter()
    task = Extraction(
        path=path,
        stimuli=case.stimuli.select(case.stimuli.ids[:n_images]),
        backbone=case.backbone,
        preprocessing=case.preprocessing,
        declared=BackboneSettings(weights="random"),
        settings={"backbone": {"n_blocks": 12}},
        provenance={},
        dtype="float16",
    )
    extract_task(task)
    return time.perf_counter() - began


def compare_feve(case: Demo, tokens: NDArray[np.float16]) -> None:
    """Mean FEVE of the planted neurons, fitted and tested on rounded tokens."""
    recording, _ = synthetic_recording(case.synthetic, tokens, name="planted")
    single = ~recording.validation
    print("\n| bits kept | mean FEVE | largest change of a neuron |\n|---|---|---|")
    first: NDArray[np.float64] | None = None
    for bits in (10, 9, 7, 5, 3):
        rounded = round_bits(tokens, bits).astype(np.float32)
        fit = fit_readouts(
            rounded[recording.image_ids[single]],
            recording.responses[single],
            rounded[recording.image_ids[recording.validation]],
            recording.responses[recording.validation],
        )
        predicted = fit.predict(rounded[recording.test_image_ids])
        fev, feve = fev_and_feve(recording.test_responses, predicted)
        valid = feve[fev > VALID_FEV]
        first = valid if first is None else first
        print(f"| {bits} | {valid.mean():.4f} | {np.abs(valid - first).max():.4f} |", flush=True)


def compare_chunks(folder: Path, tokens: NDArray[np.float16]) -> None:
    """Reading a block, whole and image by image, for chunks of several sizes."""
    n_images, rows, columns, channels = tokens.shape
    shape = TokenShape(
        n_blocks=1, grid=(rows, columns), n_channels=channels, n_registers=0, dtype="float16"
    )
    np.save(folder / "tokens.npy", tokens)
    load = best(lambda: np.load(folder / "tokens.npy"), times=9)
    rate = tokens.nbytes / 1e6 / load
    scattered = np.random.default_rng(0).choice(n_images, 64, replace=False)
    print("\n| chunk | images | read MB/s | of np.load | 64 scattered images, ms |")
    print("|---|---|---|---|---|")
    for megabytes in (1, 4, 16):
        layout = plan_layout(shape, n_images=n_images, chunk_bytes=megabytes * 2**20)
        path = write_tokens(folder / f"chunk{megabytes}.zarr", tokens, shape, layout)
        block = open_cache(str(path)).block(0)
        everything = np.arange(n_images)
        read = best(lambda block=block, ids=everything: block.read("patches", ids), times=9)  # type: ignore[misc]
        some = best(lambda block=block, ids=scattered: block.read("patches", ids))  # type: ignore[misc]
        speed = tokens.nbytes / 1e6 / read
        print(
            f"| {megabytes} MiB | {layout.images_per_chunk['patches']} | {speed:.0f} "
            f"| {speed / rate:.2f} | {1e3 * some:.1f} |",
            flush=True,
        )
    print(f"np.load of the same bytes from the page cache: {rate:.0f} MB/s")


def write_tokens(
    path: Path, tokens: NDArray[np.float16], shape: TokenShape, layout: Layout
) -> Path:
    """A cache of one block."""
    with write_cache(
        path,
        settings={"backbone": {"n_blocks": 1}},
        provenance={},
        image_ids=np.arange(len(tokens)),
        shape=shape,
        layout=layout,
    ) as writer:
        for shard in writer.missing_shards():
            values = tokens[writer.shard_ids(shard)]
            writer.write_shard(shard, [{"patches": values, "cls": values[:, 0, 0]}])
        writer.finish()
    return path


@dataclass(frozen=True, kw_only=True)
class Instant(Backbone):
    """A backbone that computes nothing, so that only buffers are measured."""

    def one_pass(self, images: torch.Tensor) -> list[dict[Any, torch.Tensor]]:
        """Zeros of the right shapes."""
        n, (rows, columns), channels = len(images), self.grid, int(self.model.embed_dim)
        values = torch.zeros(n, rows, columns, channels)
        return [{"patches": values, "cls": values[:, 0, 0]} for _ in range(self.n_blocks)]


def measure_buffers(name: str, folder: Path) -> None:
    """Peak memory of an extraction of three full shards above what the model takes."""
    case = demo(2_300, name)
    images = np.zeros((3 * 2048, 64, 128), dtype=np.uint8)
    stimuli = Stimuli(
        ids=np.arange(len(images)),
        image_shape=(64, 128),
        dtype=images.dtype,
        reader=lambda ids: images[ids],
        source="blank images",
    )
    instant = Instant(**vars(case.backbone))
    Path("/proc/self/clear_refs").write_text("5")  # The peak begins anew.
    before = resident_bytes("VmRSS")
    extract_seconds(Demo(instant, stimuli, case.synthetic, case.preprocessing), folder, len(images))
    peak = resident_bytes("VmHWM")
    print(f"buffers of an extraction, {name}: {(peak - before) / 1e9:.2f} GB above the model")
    shutil.rmtree(folder)


def resident_bytes(what: str) -> int:
    """Memory of the process now ("VmRSS") or at its peak ("VmHWM"), as Linux tells it."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(what):
            return 1024 * int(line.split()[1])
    raise OSError(f"/proc/self/status has no {what}")


def main() -> None:
    """Print every table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=2_300)
    parser.add_argument("--skip-feve", action="store_true")
    options = parser.parse_args()
    case = demo(options.images)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name in ("vit_small_patch16_224.dino", "vit_base_patch16_224.dino"):
            measure_buffers(name, folder / "buffers.zarr")
        path = folder / "demo.zarr"
        extract_seconds(case, path, options.images)
        cache = open_cache(str(path))
        tokens = {block: cache.block(block).read("patches", cache.image_ids) for block in BLOCKS}
        compare_codecs(folder, tokens)
        compare_chunks(folder, np.concatenate(list(tokens.values())))
        if not options.skip_feve:
            compare_feve(case, tokens[4])


if __name__ == "__main__":
    main()
