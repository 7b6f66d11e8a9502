"""`vitv1 extract`: an experiment's images into its cache."""

from __future__ import annotations

import getpass
from pathlib import Path

from cache import UserError
from cache.store import resolve_block
from pipeline.experiment import Experiment, ExperimentFile
from pipeline.provenance import hardware, now, versions
from pipeline.sources import Sources
from pipeline.terminal import Terminal
from stages.devices import resolve_device
from stages.preprocessing import Preprocessing
from stages.stimuli import digest


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
    # timm takes seconds to import, and stage two must do without it.
    from stages.backbones import create_backbone
    from stages.extract import extract
    from stages.token_settings import token_settings

    path = file.cache_path(experiment)
    if "://" in path:
        raise UserError(
            f"cache.path = {path}: extraction writes to this machine's disks; name a path"
        )
    sources = Sources(experiment)
    stimuli, crop = sources.required_stimuli(), sources.crop
    assert crop is not None
    device = resolve_device(experiment.run.device)
    size = experiment.stimuli.size
    backbone = create_backbone(experiment.backbone, input_size=size, device=device)
    _check_choices(experiment, sources, backbone.n_blocks)
    with terminal.bar("checking images", total=len(stimuli), unit="images") as checked:
        images = digest(stimuli, progress=checked)
    preprocessing = Preprocessing(crop=crop, input_size=size, mean=backbone.mean, std=backbone.std)
    with terminal.bar(f"extracting {path}", total=len(stimuli), unit="images") as extracted:
        computed = extract(
            stimuli,
            backbone,
            preprocessing,
            Path(path),
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
            replace=replace,
            progress=extracted,
        )
    if computed:
        terminal.note(f"{path}: {computed} images extracted, {len(stimuli)} in the cache")
    else:
        terminal.note(f"{path}: up to date, {len(stimuli)} images")


def _check_choices(experiment: Experiment, sources: Sources, n_blocks: int) -> None:
    """Refuse blocks and neurons that stage two would refuse, before hours of work."""
    if experiment.readout.blocks != "all":
        for block in experiment.readout.blocks:
            resolve_block(block, n_blocks)
    sources.check_neurons()
    for recording in experiment.recording:
        if recording.format == "synthetic":
            resolve_block(recording.synthetic.block, n_blocks)
