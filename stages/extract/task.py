"""The extraction of one variant's tokens: all that they are made of, checked and ready."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cache import PACKED, SHARD_BYTES, UserError, is_url, public_name
from stages.backbones.settings import BackboneSettings
from stages.executors.resources import PROCESS
from stages.stimuli.preprocessing import Preprocessing
from stages.stimuli.stimuli import Stimuli, StimulusDigest

if TYPE_CHECKING:
    from stages.backbones.backbone import Backbone
    from stages.executors.executor import Executor


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
    dtype : str
        Stored dtype.
    """

    path: Path
    stimuli: Stimuli
    backbone: Backbone
    preprocessing: Preprocessing
    declared: BackboneSettings
    settings: Mapping[str, Any]
    provenance: Mapping[str, Any]
    dtype: str


def prepare_extraction(
    path: str,
    *,
    stimuli: Stimuli,
    digest: StimulusDigest,
    crop: tuple[int, int],
    input_size: tuple[int, int],
    backbone: BackboneSettings,
    dtype: str,
    device: str,
    provenance: Mapping[str, Any],
) -> Extraction:
    """Build the backbone, and refuse what cannot be written.

    Parameters
    ----------
    path : str
        Where the cache is or will be.
    digest : StimulusDigest
        Content of the images.
    crop : pair of int
        Raw columns to use.
    input_size : pair of int
        Rows and columns that the backbone sees.
    provenance : mapping
        Who makes the cache, when and with what; the weights' label is added.

    Raises
    ------
    UserError
        A path that is no place on this machine's disks, or what `create_backbone` refuses.
    """
    # timm takes seconds to import, and stage two must do without it.
    from stages.backbones.backbone import create_backbone
    from stages.tokens.identity import token_settings

    check_path(path)
    made = create_backbone(backbone, input_size=input_size, device=device)
    preprocessing = Preprocessing(crop=crop, input_size=input_size, mean=made.mean, std=made.std)
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
            images=digest,
            dtype=dtype,
        ),
        provenance={"weights": made.weights.label, **provenance},
        dtype=dtype,
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
    memory_limit: int | None = None,
    executor: Executor | None = None,
    device: str = "cpu",
    progress: Callable[[int], None] | None = None,
) -> int:
    """Compute what the cache lacks; the number of images that were computed.

    Parameters
    ----------
    replace : bool
        Delete a store of other settings at the same path.
    memory_limit : int, optional
        Bytes that the process may use.
    executor : Executor, optional
        Whose workers compute the shards; this process does by default.
    device : str
        Where such workers compute.
    progress : callable, optional
        Called with a number of images.

    Raises
    ------
    CacheError
        A store of other settings, another writer, or a token that the dtype cannot hold.
    """
    from stages.extract.distributed import Extractors
    from stages.extract.run import extract

    parts = None
    if executor is not None:
        parts = Extractors(
            executor=executor,
            device=device,
            stimuli=task.stimuli,
            backbone=task.declared,
            weights=task.backbone.weights.identity,
            preprocessing=task.preprocessing,
        )
    return extract(
        task.stimuli,
        task.backbone,
        task.preprocessing,
        task.path,
        settings=task.settings,
        provenance=task.provenance,
        dtype=task.dtype,
        replace=replace,
        memory_limit=memory_limit,
        parts=parts,
        progress=progress,
    )


def worker_memory() -> int:
    """Bytes of a worker that computes one shard while it writes another."""
    return PROCESS + 2 * SHARD_BYTES
