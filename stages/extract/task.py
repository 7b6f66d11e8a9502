"""Extraction of one variant's tokens: all that they are made of, and the filling of a cache."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cache import PACKED, SHARD_BYTES, UserError, is_url, public_name
from stages.backbones.families import FAMILY
from stages.backbones.settings import BackboneSettings
from stages.executors.resources import PROCESS
from stages.stimuli.preprocessing import Preprocessing
from stages.stimuli.stimuli import Stimuli, StimulusDigest

if TYPE_CHECKING:
    from cache import CacheWriter, HashedImages, Layout
    from stages.backbones.backbone import Backbone
    from stages.executors.executor import Executor
    from stages.variant import Variant


@dataclass(frozen=True, kw_only=True)
class Extraction:
    """All that one variant's tokens are made of.

    Parameters
    ----------
    path : path
        Where the cache is.
    stimuli, backbone, preprocessing
        What tokens are computed from.
    declared : BackboneSettings
        What the backbone was made from.
    settings, provenance : mapping
        What the cache's root says of them.
    images : HashedImages, optional
        The images' ids and hashes; None where the cache was begun without hashes.
    dtype : str
        Stored dtype, "float16" or "float32".
    """

    path: Path
    stimuli: Stimuli
    backbone: Backbone
    preprocessing: Preprocessing
    declared: BackboneSettings
    settings: Mapping[str, Any]
    provenance: Mapping[str, Any]
    dtype: str
    images: HashedImages | None = None


def prepare_extraction(
    path: str,
    *,
    variant: Variant,
    digest: StimulusDigest,
    device: str,
    provenance: Mapping[str, Any],
    hashed: bool,
) -> Extraction:
    """Build the backbone of a variant whose images are there, and refuse what cannot be written.

    The provenance says who makes the cache, when and with what; weights and images are added to it.
    A cache that was begun without hashes of its images is not `hashed`.

    Raises
    ------
    UserError
        A path that is no place on this machine's disks, or what `create_backbone` refuses.
    """
    # timm takes seconds to import, and stage two must do without it.
    from stages.backbones.backbone import create_backbone
    from stages.tokens.identity import token_settings

    check_path(path)
    stimuli, crop, dtype = variant.stimuli, variant.crop, variant.settings.cache.dtype
    assert stimuli is not None and crop is not None
    licence = variant.settings.cache.license
    backbone, size = variant.settings.backbone, variant.settings.stimuli.size
    made = create_backbone(backbone, input_size=size, device=device)
    preprocessing = Preprocessing(crop=crop, input_size=size, mean=made.mean, std=made.std)
    return Extraction(
        path=Path(path),
        stimuli=stimuli,
        backbone=made,
        preprocessing=preprocessing,
        declared=backbone,
        settings=token_settings(
            backbone,
            n_blocks=made.n_blocks,
            weights=made.weights,
            preprocessing=preprocessing,
            images=None if hashed else digest,
            dtype=dtype,
        ),
        provenance={
            "weights": made.weights.label,
            "weights_adapted": list(made.weights.adapted),
            FAMILY: made.family.named(made.model),
            **provenance,
            "stimuli": Path(stimuli.source).name,
            **({} if licence is None else {"license": licence}),
        },
        dtype=dtype,
        images=digest.images if hashed else None,
    )


def check_path(path: str) -> None:
    """Refuse what is no directory on this machine's disks.

    Raises
    ------
    UserError
        A URL or a packed file.
    """
    if is_url(path) or path.endswith(PACKED):
        raise UserError(
            f"cache.path = {public_name(path)}: extraction writes a directory on this "
            "machine's disks; name a path"
        )


def extract_task(
    task: Extraction,
    *,
    replace: bool = False,
    layout: Layout | None = None,
    memory_limit: int | None = None,
    executor: Executor | None = None,
    device: str = "cpu",
    progress: Callable[[int], None] = lambda number: None,
) -> int:
    """Fill a cache with the tokens of all images, going on where an earlier run ended.

    A cache that was begun with other images is finished first, then gets those that it lacks.

    Parameters
    ----------
    replace : bool
        Delete a store of other settings at the same path.
    layout : Layout, optional
        How a new store is cut; planned from the tokens' size by default.
    memory_limit : int, optional
        Bytes that the process may use: a new store gets smaller shards where it must.
    executor, device : Executor and str, optional
        Whose workers compute the shards, and where; this process does by default.
    progress : callable
        Called with a number of images whenever so many more are in the cache or computed.

    Returns
    -------
    int
        Images that were computed; the rest was there.

    Raises
    ------
    CacheError
        A store of other settings, another writer, or a token that the dtype cannot hold.
    """
    from cache import plan_layout, write_cache
    from stages.backbones.backbone import BATCH

    shape = task.backbone.token_shape(task.dtype)
    # Two shards are held, one being computed and one being written. None is made smaller than a
    # batch, so that no token depends on the limit.
    most = SHARD_BYTES if memory_limit is None else min(SHARD_BYTES, memory_limit // 4)
    plan = layout or plan_layout(
        shape, n_images=len(task.stimuli), shard_bytes=max(BATCH * shape.image_bytes, most)
    )
    computed, wanted = 0, task.stimuli.ids
    while True:
        with write_cache(
            task.path,
            settings=task.settings,
            provenance=task.provenance,
            image_ids=wanted,
            image_sha256=None if task.images is None else task.images.hashes,
            shape=shape,
            layout=plan,
            replace=replace and not computed,
        ) as writer:
            missing = writer.missing_shards()
            of_shards = sum(len(writer.shard_ids(shard)) for shard in missing)
            lacking = (
                0 if task.images is None else len(np.setdiff1d(wanted, writer.cache.image_ids))
            )
            if not computed:
                progress(len(wanted) - of_shards - lacking)
            _fill(task, writer, missing, executor, device, progress)
            computed += of_shards
        if not lacking:
            return computed


def _fill(
    task: Extraction,
    writer: CacheWriter,
    missing: Sequence[int],
    executor: Executor | None,
    device: str,
    progress: Callable[[int], None],
) -> None:
    """Compute and write some shards of a cache, and finish it."""
    from stages.extract.distributed import write_elsewhere
    from stages.extract.run import extract_shards

    if missing and executor is not None:
        for shard in write_elsewhere(task, writer.path, missing, executor, device, progress):
            writer.record(shard)
    elif missing:
        made = task.stimuli, task.backbone, task.preprocessing
        extract_shards(*made, writer, missing, writer.write_shard, progress)
    if not writer.cache.complete:
        writer.finish()


def worker_memory() -> int:
    """Bytes of a worker that computes one shard while it writes another."""
    return PROCESS + 2 * SHARD_BYTES
