"""Which frozen readouts an experiment asks for, and those that fine-tuning starts from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from cache import FeatureCache, UserError, resolve_block
from pipeline.experiment import Experiment
from pipeline.uncached import Uncached
from pipeline.variant.inputs import Sources
from pipeline.workers import device_of
from stages.conditions import Condition
from stages.finetune.settings import PROTOCOLS
from stages.finetune.task import first_tuned_block
from stages.fit.task import FitTask
from stages.readouts.settings import ReadoutSettings
from stages.recordings.recording import digest_recording


def starting_readout(experiment: Experiment) -> ReadoutSettings | None:
    """Settings of the frozen readouts that fine-tuning starts from; None where there is none."""
    readout, finetune = experiment.readout, experiment.finetune
    if finetune is None:
        return None
    return replace(
        readout,
        tokens=finetune.tokens or readout.tokens,
        blocks=readout.blocks if finetune.blocks is None else finetune.blocks,
        joint_blocks=(),
        solver=PROTOCOLS[finetune.protocol].solver or readout.solver,
    )


def check_finetuning(experiment: Experiment, n_blocks: int) -> None:
    """Refuse what fine-tuning would refuse, before hours of other work.

    Raises
    ------
    UserError
        A block or more stages than there are, or readouts without rates.
    """
    readout = starting_readout(experiment)
    if experiment.finetune is None or readout is None:
        return
    if readout.solver == "als" and readout.als.output == "linear":
        raise UserError(
            'readout.als.output = "linear" has no rates to train on: fine-tuning starts from "elu"'
        )
    for block in range(n_blocks) if readout.blocks == "all" else readout.blocks:
        for last in experiment.finetune.last:
            first_tuned_block(last, resolve_block(block, n_blocks))


def fit_tasks(
    experiment: Experiment,
    cache: FeatureCache | Uncached,
    readout: ReadoutSettings,
    sources: Sources | None = None,
) -> Iterator[FitTask]:
    """Every condition of some readout settings, in the order of the file.

    Parameters
    ----------
    sources : Sources, optional
        The variant's, where they were read before.
    """
    for blocks in read_blocks(readout, cache.n_blocks):
        for block in blocks:
            cache.block(block)
    device = device_of(experiment.run)
    for recording in (sources or Sources(experiment)).recordings(
        cache if isinstance(cache, FeatureCache) else None
    ):
        cache.rows(recording.all_image_ids)
        content = digest_recording(recording)
        for condition in frozen_conditions(
            experiment, readout, recording=recording.name, n_blocks=cache.n_blocks
        ):
            yield FitTask(
                condition=condition,
                cache_path=cache.path,
                cache_key=cache.key,
                weights=str(cache.provenance.get("weights", "unknown")),
                recording=recording,
                recording_digest=content,
                settings=readout,
                device=device,
            )


def frozen_conditions(
    experiment: Experiment, readout: ReadoutSettings, *, recording: str, n_blocks: int
) -> Iterator[Condition]:
    """The conditions of some readout settings on one recording, in the order of the file.

    Raises
    ------
    UserError
        A block that a backbone of `n_blocks` does not have.
    """
    rows, columns = experiment.stimuli.size
    for tokens in readout.tokens:
        for blocks in read_blocks(readout, n_blocks):
            yield Condition(
                recording=recording,
                model=experiment.backbone.name,
                input_size=f"{rows}x{columns}",
                tokens=tokens,
                block=blocks[-1],
                blocks="+".join(map(str, blocks)),
                solver=readout.solver,
                seed=experiment.run.seed,
            )


def read_blocks(readout: ReadoutSettings, n_blocks: int) -> list[tuple[int, ...]]:
    """The blocks of every readout, increasing: one each, then those that are read together.

    Raises
    ------
    UserError
        A block that a backbone of `n_blocks` does not have.
    """
    wanted = range(n_blocks) if readout.blocks == "all" else readout.blocks
    groups = [*((block,) for block in wanted), *readout.joint_blocks]
    found = {tuple(sorted({resolve_block(b, n_blocks) for b in blocks})) for blocks in groups}
    return sorted(found, key=lambda blocks: (len(blocks), blocks))
