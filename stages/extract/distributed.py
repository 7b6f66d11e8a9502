"""Extraction on many workers: each computes and writes shards of its own.

One process holds the store's lock and records the shards that are done. A shard whose worker died
is computed again.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache import CacheError, CacheWriter, ShardWriter, beside, differences
from stages.backbones.backbone import create_backbone
from stages.backbones.settings import BackboneSettings
from stages.executors.executor import Executor
from stages.extract.run import ImageProgress, extract_shards
from stages.stimuli.preprocessing import Preprocessing
from stages.stimuli.stimuli import Stimuli

#: Most shards of a task: several, since each task makes the backbone.
SHARDS_AT_ONCE = 4


@dataclass(frozen=True, kw_only=True)
class ShardsTask:
    """Some shards of one store.

    Parameters
    ----------
    path : path
        The store, on a disk that all workers share.
    shards : tuple of int
        Their numbers.
    stimuli : Stimuli
        All images of the store.
    backbone : BackboneSettings
        The backbone, which each task makes.
    weights : mapping
        Identity that its weights must have.
    preprocessing : Preprocessing
        From raw images to the backbone's.
    device : str
        "cpu" or a CUDA device.
    """

    path: Path
    shards: tuple[int, ...]
    stimuli: Stimuli
    backbone: BackboneSettings
    weights: Mapping[str, Any]
    preprocessing: Preprocessing
    device: str


@dataclass(frozen=True, kw_only=True)
class Extractors:
    """Extraction by the workers of an executor: the `parts` of `stages.extract.run.extract`.

    Parameters
    ----------
    executor : Executor
        Its workers compute and write.
    device : str
        Anything but "cpu": each worker takes a GPU.
    stimuli, backbone, weights, preprocessing
        See `ShardsTask`.
    """

    executor: Executor
    device: str
    stimuli: Stimuli
    backbone: BackboneSettings
    weights: Mapping[str, Any]
    preprocessing: Preprocessing

    def __call__(
        self, writer: CacheWriter, missing: Sequence[int], progress: ImageProgress
    ) -> Iterator[int]:
        """Have the missing shards computed and written.

        Yields
        ------
        int
            Each shard as soon as its files are durable.

        Raises
        ------
        CacheError
            A worker whose weights differ, or a token that the dtype cannot hold.
        WorkersDied
            A task lost its worker several times.
        """
        size = max(1, min(SHARDS_AT_ONCE, len(missing) // (4 * self.executor.workers)))
        tasks = [
            ShardsTask(
                path=writer.path.absolute(),
                shards=tuple(missing[first : first + size]),
                stimuli=self.stimuli,
                backbone=self.backbone,
                weights=self.weights,
                preprocessing=self.preprocessing,
                device=self.device,
            )
            for first in range(0, len(missing), size)
        ]
        for position, n_images in self.executor.map(write_shards, tasks, device=self.device):
            progress(n_images)
            yield from tasks[position].shards


def write_shards(task: ShardsTask) -> int:
    """Compute and write some shards; the number of their images.

    Raises
    ------
    CacheError
        This worker's weights are others than the store's, or a token that the dtype cannot hold.
    """
    backbone = create_backbone(
        task.backbone, input_size=task.preprocessing.input_size, device=task.device
    )
    differing = differences(
        {"weights": dict(backbone.weights.identity)}, {"weights": dict(task.weights)}
    )
    if differing:
        raise CacheError(
            f"{socket.gethostname()} has other weights than the store is made of "
            f"({'; '.join(differing)}): give all workers the same files"
        )
    own = f".part-{socket.gethostname()}-{os.getpid()}"
    writer = ShardWriter(task.path, temporary=beside(task.path, own))
    images: list[int] = []
    extract_shards(
        task.stimuli,
        backbone,
        task.preprocessing,
        writer,
        task.shards,
        writer.write_files,
        images.append,
    )
    return sum(images)
