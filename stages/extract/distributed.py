"""Extraction on many workers: each computes and writes shards of its own.

One process holds the store's lock and records the shards that are done. A shard whose worker died
is computed again.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cache import CacheError, ShardWriter, beside, differences, key_of
from stages.backbones.backbone import create_backbone
from stages.backbones.settings import BackboneSettings
from stages.extract.run import extract_shards
from stages.stimuli.preprocessing import Preprocessing
from stages.stimuli.stimuli import Stimuli

if TYPE_CHECKING:
    from stages.executors.executor import Executor
    from stages.extract.task import Extraction

#: Most shards of a task: several, since each task makes the backbone.
SHARDS_AT_ONCE = 4


@dataclass(frozen=True, kw_only=True)
class _ShardsTask:
    """Some shards of a store, and what makes them: a backbone whose weights have an identity."""

    path: Path
    key: str
    shards: tuple[int, ...]
    stimuli: Stimuli
    backbone: BackboneSettings
    weights: Mapping[str, Any]
    preprocessing: Preprocessing
    device: str


def write_elsewhere(
    task: Extraction,
    path: Path,
    missing: Sequence[int],
    executor: Executor,
    device: str,
    progress: Callable[[int], None],
) -> Iterator[int]:
    """Have an executor's workers compute and write the missing shards of the store at `path`.

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
    size = max(1, min(SHARDS_AT_ONCE, len(missing) // (4 * executor.workers)))
    tasks = [
        _ShardsTask(
            path=path.absolute(),
            key=key_of(task.settings),
            shards=tuple(missing[first : first + size]),
            stimuli=task.stimuli,
            backbone=task.declared,
            weights=task.backbone.weights.identity,
            preprocessing=task.preprocessing,
            device=device,
        )
        for first in range(0, len(missing), size)
    ]
    for position, n_images in executor.map(_write_shards, tasks, device=device):
        progress(n_images)
        yield from tasks[position].shards


def _write_shards(task: _ShardsTask) -> int:
    """Compute and write some shards; the number of their images."""
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
    own = f"part-{socket.gethostname()}-{os.getpid()}"
    writer = ShardWriter(task.path, key=task.key, temporary=beside(task.path, own))
    images: list[int] = []
    made = task.stimuli, backbone, task.preprocessing
    extract_shards(*made, writer, task.shards, writer.write_files, images.append)
    return sum(images)
