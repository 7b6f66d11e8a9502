"""`vitv1 fit`: readouts of every condition from the cache, then tables and provenance."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cache import CacheError, FeatureCache, open_cache
from cache.store import resolve_block
from pipeline.experiment import Experiment, ExperimentFile
from pipeline.provenance import hardware, versions
from pipeline.results import write_if_changed, write_tables
from pipeline.sources import Sources
from pipeline.terminal import Terminal
from stages.conditions import Condition
from stages.devices import resolve_device
from stages.fit import FitTask, digest_recording, fit_all
from stages.saved_readouts import save_condition, saved_attributes
from stages.token_settings import Agreement, check_cache

PROVENANCE = "provenance.json"


def fit_experiment(file: ExperimentFile, terminal: Terminal) -> pd.DataFrame:
    """Fit what is not up to date, rewrite the tables, and return the summary.

    Raises
    ------
    UserError
        Bad input or settings; no cache, or one of other settings.
    """
    tasks: list[FitTask] = []
    caches: dict[str, dict[str, Any]] = {}
    for experiment in file.variants:
        cache, agreement = checked_cache(file, experiment)
        if agreement.unchecked:
            unchecked = ", ".join(agreement.unchecked)
            terminal.note(f"{cache.path}: {unchecked} not at hand, not re-checked")
        caches[cache.path] = {"key": cache.key, "not re-checked": list(agreement.unchecked)}
        tasks.extend(_tasks(experiment, cache))
    outdated = [task for task in tasks if not _up_to_date(file.output, task)]
    workers = file.variants[0].run.workers or os.cpu_count() or 1
    with terminal.bar("fitting readouts", total=len(outdated), unit="conditions") as done:
        for fitted in fit_all(outdated, workers=workers) if outdated else ():
            save_condition(file.output, fitted)
            done(1)
    up_to_date = len(tasks) - len(outdated)
    terminal.note(f"{file.output}: {len(outdated)} conditions fitted, {up_to_date} up to date")
    summary = write_tables(file.output, [task.condition for task in tasks])
    if outdated or not _same_settings(file):
        _write_provenance(file, tasks, caches)
    return summary


def checked_cache(file: ExperimentFile, experiment: Experiment) -> tuple[FeatureCache, Agreement]:
    """A variant's cache, complete and of the experiment's settings.

    Raises
    ------
    CacheError
        No cache, an incomplete one, or one of other settings; the message names the remedy.
    """
    path = file.cache_path(experiment)
    try:
        cache = open_cache(path)
    except CacheError as error:
        raise CacheError(f"{error} (vitv1 extract {file.path})") from None
    if not cache.complete:
        missing = int((~cache.shards_done).sum())
        raise CacheError(
            f"{path} is incomplete, {missing} of {len(cache.shards_done)} shards are missing: "
            f"finish it with vitv1 extract {file.path}"
        )
    sources = Sources(experiment)
    agreement = check_cache(
        cache,
        backbone=experiment.backbone,
        stimuli=experiment.stimuli,
        crop=sources.crop,
        dtype=experiment.cache.dtype,
        images=sources.digest,
    )
    return cache, agreement


def _tasks(experiment: Experiment, cache: FeatureCache) -> Iterator[FitTask]:
    """Every condition of a variant, in the order of the file."""
    readout = experiment.readout
    wanted = range(cache.n_blocks) if readout.blocks == "all" else readout.blocks
    blocks = sorted({resolve_block(block, cache.n_blocks) for block in wanted})
    for block in blocks:
        cache.block(block)
    rows, columns = experiment.stimuli.size
    device = resolve_device(experiment.run.device)
    for recording in Sources(experiment).recordings(cache):
        cache.rows(recording.all_image_ids)
        content = digest_recording(recording)
        for tokens in readout.tokens:
            for block in blocks:
                yield FitTask(
                    condition=Condition(
                        recording=recording.name,
                        model=experiment.backbone.name,
                        input_size=f"{rows}x{columns}",
                        tokens=tokens,
                        block=block,
                        blocks=str(block),
                        solver=readout.solver,
                        seed=experiment.run.seed,
                    ),
                    cache_path=cache.path,
                    cache_key=cache.key,
                    weights=str(cache.provenance.get("weights", "unknown")),
                    recording=recording,
                    recording_digest=content,
                    settings=readout,
                    device=device,
                )


def _up_to_date(run: Path, task: FitTask) -> bool:
    saved = saved_attributes(run, task.condition)
    return saved is not None and saved["key"] == task.key


def _same_settings(file: ExperimentFile) -> bool:
    path = file.output / PROVENANCE
    if not path.exists():
        return False
    return bool(json.loads(path.read_text())["settings"] == json.loads(_json(file.settings)))


def _write_provenance(
    file: ExperimentFile, tasks: Sequence[FitTask], caches: dict[str, dict[str, Any]]
) -> None:
    content = {
        "settings": file.settings,
        "experiments": [_plain(experiment) for experiment in file.variants],
        "caches": caches,
        "seeds": sorted({task.condition.seed for task in tasks}),
        "recordings": {task.recording.name: task.recording_digest for task in tasks},
        "versions": versions(),
        "hardware": hardware(tasks[0].device),
    }
    write_if_changed(file.output / PROVENANCE, _json(content).encode())


def _plain(experiment: Experiment) -> Any:
    """Settings as they were used, defaults filled in."""
    from pydantic import TypeAdapter

    return TypeAdapter(Experiment).dump_python(experiment, mode="json")


def _json(content: object) -> str:
    return json.dumps(content, indent=2, default=str) + "\n"
