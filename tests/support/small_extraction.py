"""A tiny but real extraction, in this process or in child processes that can be killed."""

from __future__ import annotations

from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import numpy as np

from cache import CacheError, Layout, open_cache
from support.forked import forked

N_IMAGES = 32
PER_SHARD = 4


class Extraction:
    """A tiny but real one: 32 images, a backbone of two blocks, 8 shards."""

    def __init__(self) -> None:
        import torch

        from stages.backbones.backbone import create_backbone
        from stages.backbones.settings import BackboneSettings
        from stages.stimuli.preprocessing import Preprocessing
        from stages.stimuli.stimuli import digest, stimuli_from_array
        from stages.tokens.identity import token_settings

        torch.set_num_threads(1)
        images = np.random.default_rng(0).integers(0, 255, (N_IMAGES, 32, 32), dtype=np.uint8)
        self.stimuli = stimuli_from_array(images, source="random images")
        arguments: dict[str, bool | int | float | str] = {
            "depth": 2,
            "embed_dim": 24,
            "num_heads": 3,
        }
        self.declared = BackboneSettings(
            name="vit_small_patch16_dinov3", weights="random", arguments=arguments
        )
        self.backbone = create_backbone(self.declared, input_size=(32, 32))
        self.preprocessing = Preprocessing(
            crop=(0, 32), input_size=(32, 32), mean=self.backbone.mean, std=self.backbone.std
        )
        self.settings = token_settings(
            self.declared,
            n_blocks=self.backbone.n_blocks,
            weights=self.backbone.weights,
            preprocessing=self.preprocessing,
            dtype="float16",
        )
        self.images = digest(self.stimuli).images

    def run(self, path: Path) -> int:
        """Extract; the number of images that were computed."""
        from stages.extract.task import Extraction as Task
        from stages.extract.task import extract_task

        kinds = self.backbone.token_shape("float16").kinds()
        task = Task(
            path=path,
            stimuli=self.stimuli,
            backbone=self.backbone,
            preprocessing=self.preprocessing,
            declared=self.declared,
            settings=self.settings,
            provenance={"made": "in a trial"},
            dtype="float16",
            images=self.images,
        )
        return extract_task(
            task,
            layout=Layout(images_per_shard=PER_SHARD, images_per_chunk=dict.fromkeys(kinds, 2)),
        )


def extract_in_process(path: Path, ready: Any, results: Any) -> None:
    """What a child process does: say that it begins, extract, say how it went."""
    extraction = Extraction()
    ready.wait()
    try:
        results.put(("computed", extraction.run(path)))
    except CacheError as error:
        results.put(("refused", str(error)))


class Children:
    """Child processes that extract, forked from one that has imported torch and timm already."""

    def __init__(self) -> None:
        self._context = forked()

    def start(self, path: Path, number: int = 1) -> tuple[list[ForkServerProcess], Any]:
        """So many processes that begin to extract at this moment, and the queue of results."""
        ready = self._context.Barrier(number + 1)
        results = self._context.SimpleQueue()
        processes = [
            self._context.Process(target=extract_in_process, args=(path, ready, results))
            for _ in range(number)
        ]
        for process in processes:
            process.start()
        ready.wait()
        return processes, results


def tokens_of(path: Path) -> dict[tuple[int, str], np.ndarray]:
    """All tokens of a store's complete shards."""
    cache = open_cache(str(path))
    written = np.repeat(cache.shards_done, cache.images_per_shard)[: len(cache.image_ids)]
    ids = cache.image_ids[written]
    return {(b, kind): cache.block(b).read(kind, ids) for b in cache.blocks for kind in cache.kinds}


def rows_in(path: Path) -> int:
    """Images that a store claims to hold."""
    return PER_SHARD * int(open_cache(str(path)).shards_done.sum()) if path.exists() else 0
