"""`vitv1 extract`: an experiment's images into its cache."""

from __future__ import annotations

import getpass
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cache import (
    PACKED,
    SHARD_BYTES,
    FeatureCache,
    UserError,
    is_url,
    key_of,
    public_name,
    resolve_block,
)
from pipeline.experiment import Experiment, ExperimentFile, RunSettings
from pipeline.frozen_tasks import check_finetuning
from pipeline.results.provenance import hardware, now, versions
from pipeline.run.conditions import checked_cache
from pipeline.terminal import Terminal
from pipeline.uncached import Uncached
from pipeline.variant.inputs import Sources
from pipeline.workers import device_of, workplace
from stages.backbones.settings import BackboneSettings
from stages.executors.executor import Executor
from stages.executors.resources import PROCESS, default_memory_limit, resolve_device
from stages.stimuli.preprocessing import Preprocessing
from stages.stimuli.stimuli import Stimuli, digest

if TYPE_CHECKING:
    from stages.backbones.backbone import Backbone
    from stages.extract.distributed import Extractors


@dataclass(frozen=True, kw_only=True)
class Extraction:
    """All that one variant's tokens are made of, checked and ready.

    Parameters
    ----------
    path : path
        Where the cache is.
    stimuli, backbone, preprocessing
        What tokens are computed from.
    settings, provenance : mapping
        What the cache's root says of them.
    dtype : str
        Stored dtype.
    declared : BackboneSettings
        What the backbone was made from.
    run : RunSettings
        Where the tokens are computed.
    output : path
        The run's folder.
    """

    path: Path
    stimuli: Stimuli
    backbone: Backbone
    preprocessing: Preprocessing
    settings: Mapping[str, Any]
    provenance: Mapping[str, Any]
    dtype: str
    declared: BackboneSettings
    run: RunSettings
    output: Path


def prepare_extraction(
    file: ExperimentFile, experiment: Experiment, terminal: Terminal
) -> Extraction:
    """Read the images, build the backbone, and check everything a person may have got wrong.

    Raises
    ------
    UserError
        Bad input or settings.
    """
    # timm takes seconds to import, and stage two must do without it.
    from stages.backbones.backbone import create_backbone
    from stages.tokens.identity import token_settings

    path = file.cache_path(experiment)
    if is_url(path) or path.endswith(PACKED):
        raise UserError(
            f"cache.path = {public_name(path)}: extraction writes a directory on this "
            "machine's disks; name a path"
        )
    sources = Sources(experiment)
    stimuli, crop = sources.required_stimuli(), sources.crop
    assert crop is not None
    # A cluster's workers compute; this process only needs to know the backbone's shape.
    device = "cpu" if experiment.run.executor == "dask" else resolve_device(experiment.run.device)
    size = experiment.stimuli.size
    backbone = create_backbone(experiment.backbone, input_size=size, device=device)
    _check_choices(experiment, sources, backbone.n_blocks)
    with terminal.bar("checking images", total=len(stimuli), unit="images") as checked:
        images = digest(stimuli, progress=checked)
    preprocessing = Preprocessing(crop=crop, input_size=size, mean=backbone.mean, std=backbone.std)
    return Extraction(
        path=Path(path),
        stimuli=stimuli,
        backbone=backbone,
        preprocessing=preprocessing,
        settings=token_settings(
            experiment.backbone,
            n_blocks=backbone.n_blocks,
            weights=backbone.weights,
            preprocessing=preprocessing,
            images=images,
            dtype=experiment.cache.dtype,
        ),
        provenance={
            "weights": backbone.weights.label,
            "created": now(),
            "user": getpass.getuser(),
            "stimuli": Path(stimuli.source).name,
            "versions": versions(),
            "hardware": hardware(device),
        },
        dtype=experiment.cache.dtype,
        declared=experiment.backbone,
        run=experiment.run,
        output=file.output,
    )


def extract_experiment(
    file: ExperimentFile, experiment: Experiment, terminal: Terminal, *, replace: bool = False
) -> None:
    """Make or finish the cache of one variant of an experiment.

    Everything that a person may have got wrong is checked before the first file is written.

    Raises
    ------
    UserError
        Bad input or settings, a cache of other settings, or another writer at work.
    """
    fill(prepare_extraction(file, experiment, terminal), terminal, replace=replace)


def fill(extraction: Extraction, terminal: Terminal, *, replace: bool = False) -> None:
    """Compute what the cache lacks, and say what was done."""
    from stages.extract.run import extract

    path, n_images, run = extraction.path, len(extraction.stimuli), extraction.run
    with ExitStack() as stack:
        parts = None
        if run.executor == "dask":
            # A core computes one shard, in a process that holds two.
            place = stack.enter_context(
                workplace(run, extraction.output, terminal, n_tasks=n_images, needed=_needed_memory)
            )
            parts = _extractors(extraction, place.executor)
        extracted = stack.enter_context(
            terminal.bar(f"extracting {path}", total=n_images, unit="images")
        )
        computed = extract(
            extraction.stimuli,
            extraction.backbone,
            extraction.preprocessing,
            path,
            settings=extraction.settings,
            provenance=extraction.provenance,
            dtype=extraction.dtype,
            replace=replace,
            memory_limit=run.memory_limit or default_memory_limit(),
            parts=parts,
            progress=extracted,
        )
    if computed:
        terminal.note(f"{path}: {computed} images extracted, {n_images} in the cache")
    else:
        terminal.note(f"{path}: up to date, {n_images} images")


def _needed_memory() -> int:
    return PROCESS + 2 * SHARD_BYTES


def _extractors(extraction: Extraction, executor: Executor) -> Extractors:
    from stages.extract.distributed import Extractors

    return Extractors(
        executor=executor,
        device=device_of(extraction.run),
        stimuli=extraction.stimuli,
        backbone=extraction.declared,
        weights=extraction.backbone.weights.identity,
        preprocessing=extraction.preprocessing,
    )


def tokens_of(
    file: ExperimentFile, experiment: Experiment, terminal: Terminal
) -> FeatureCache | Uncached:
    """A variant's cache, or where it has none the identity that images and weights give it.

    Raises
    ------
    UserError
        A cache that is incomplete or of other settings; without one, no images or no weights.
    """
    path = file.cache_path(experiment)
    planted = any(recording.format == "synthetic" for recording in experiment.recording)
    if planted or is_url(path) or Path(path).exists():
        return checked_cache(file, experiment)[0]
    extraction = prepare_extraction(file, experiment, terminal)
    return Uncached(
        path=path,
        key=key_of(extraction.settings),
        settings=extraction.settings,
        provenance=extraction.provenance,
    )


def one_per_cache(file: ExperimentFile) -> Iterator[Experiment]:
    """Variants that differ in their cache; seeds alone share one."""
    yield from {file.cache_path(experiment): experiment for experiment in file.variants}.values()


def _check_choices(experiment: Experiment, sources: Sources, n_blocks: int) -> None:
    """Refuse blocks and neurons that stage two would refuse, before hours of work."""
    if experiment.readout.blocks != "all":
        for block in experiment.readout.blocks:
            resolve_block(block, n_blocks)
    check_finetuning(experiment, n_blocks)
    sources.check_neurons()
    for recording in experiment.recording:
        if recording.format == "synthetic":
            resolve_block(recording.synthetic.block, n_blocks)
