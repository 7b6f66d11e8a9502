"""Measurement of this machine, so that plans are priced with what it does."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.plan.speed import ASSUMED, Speed
from stages.backbones import create_backbone, image_operations
from stages.executors import cpu_threads

if TYPE_CHECKING:
    from pipeline.variant.variant import Variant

#: Seconds for each of what is measured; one repetition may take longer.
SECONDS = 3.0

#: Rows and columns of the matrices, images of a forward pass, and bytes on the disk.
ROWS, IMAGES, ON_DISK = 2048, 4, 256 * 2**20

#: On a GPU.
GPU_ROWS, GPU_IMAGES = 8192, 64


def calibrate(variant: Variant, place: Path) -> Speed:
    """Measure products of matrices, a forward pass of the backbone, and the disk: some 15 s.

    Parameters
    ----------
    variant : Variant
        Whose backbone passes images, with random weights: they take as long as any.
    place : path
        On the disk that is measured; a file in the nearest folder that is there is made and gone.
    """
    device = variant.device
    with cpu_threads(1):
        core = _products("cpu", ROWS)
        products = core if device == "cpu" else _products(device, GPU_ROWS)
        blocks = _blocks(variant, device, IMAGES if device == "cpu" else GPU_IMAGES)
    read = _read(place)
    return Speed(
        blocks=blocks,
        products=products,
        core_products=core,
        n_bytes=ASSUMED.n_bytes if read is None else read,
        device=_name(device),
        measured=True,
    )


def _products(device: str, rows: int) -> float:
    import torch

    matrix = torch.randn(rows, rows, device=device)
    return _rate(lambda: matrix @ matrix, 2.0 * rows**3, device)


def _blocks(variant: Variant, device: str, n_images: int) -> float:
    import torch

    settings, size = variant.settings, variant.settings.stimuli.size
    random = replace(settings.backbone, weights="random")
    backbone = create_backbone(random, input_size=size, device=device)
    images = torch.randn(n_images, 3, *size, device=device)
    operations = n_images * (variant.cache.operations or image_operations(variant.token_shape))

    @torch.inference_mode()
    def forward() -> object:
        for kinds in backbone.tokens(images):
            last = kinds
        return last

    return _rate(forward, operations, device)


def _read(place: Path) -> float | None:
    """Bytes per second from the disk; None where nothing can be written there."""
    folder = next(each for each in (place.absolute(), *place.absolute().parents) if each.is_dir())
    content = os.urandom(2**20)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            for _ in range(ON_DISK // len(content)):
                file.write(content)
            file.flush()
            os.fsync(file.fileno())

            def read() -> None:
                # What the system keeps of it in memory is let go of.
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                file.seek(0)
                while file.read(2**23):
                    pass

            return _rate(read, ON_DISK, "cpu")
    except OSError:
        return None


def _rate(work: Callable[[], object], amount: float, device: str) -> float:
    """Amount of work per second: the median of what fits into `SECONDS`, after a first one."""
    work()
    _wait(device)
    took: list[float] = []
    begun = time.perf_counter()
    while not took or time.perf_counter() - begun < SECONDS:
        started = time.perf_counter()
        work()
        _wait(device)
        took.append(time.perf_counter() - started)
    return amount / statistics.median(took)


def _wait(device: str) -> None:
    import torch

    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def _name(device: str) -> str:
    import torch

    return torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else device
