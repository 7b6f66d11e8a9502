"""Stage two: from cached tokens to fitted and scored readouts, condition by condition.

Every condition is fitted on one thread in a process of its own, so that its result does not depend
on how many run beside it. Nothing here needs the backbone.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from numpy.typing import NDArray

from cache import open_cache
from cache.identity import canonical_json
from cache.layout import TokenKind
from stages.conditions import Condition
from stages.failures import FailedCondition, attempt
from stages.feve import fev_and_feve
from stages.readout import Readouts
from stages.readouts import fit_readouts
from stages.recording import Recording
from stages.saved_readouts import FittedCondition
from stages.settings import ReadoutSettings
from stages.solvers.cached_tokens import CachedTokens
from stages.solvers.data import ArrayTokens, Tokens, partitions
from stages.solvers.statistics_folder import StatisticsFolder
from stages.variance import correlation, variance_explained

#: Raised whenever the same settings give other numbers than before: old results are refitted.
RESULT_VERSION = 1

#: Share of the memory limit up to which tokens are read at once rather than part by part.
IN_MEMORY = 0.25

KINDS: dict[str, TokenKind] = {"patch": "patches", "cls": "cls"}


@dataclass(frozen=True, kw_only=True)
class FitTask:
    """One condition to be fitted from a cache.

    Parameters
    ----------
    condition : Condition
        With tokens, block, solver and seed set.
    cache_path : str
        Where the tokens are.
    cache_key : str
        The cache's identity.
    weights : str
        What the results say of the backbone's weights.
    recording : Recording
        Responses as recorded.
    recording_digest : str
        From `digest_recording`.
    settings : ReadoutSettings
        The solver's settings among them.
    device : str
        "cpu" or a CUDA device.
    memory_limit : int, optional
        Bytes that all conditions fitted at a time may use together; changes no result.
    statistics : path, optional
        Folder that keeps what fits need to know of the tokens alone, for later fits.
    """

    condition: Condition
    cache_path: str
    cache_key: str
    weights: str
    recording: Recording
    recording_digest: str
    settings: ReadoutSettings
    device: str = "cpu"
    memory_limit: int | None = None
    statistics: Path | None = None

    @property
    def inputs(self) -> dict[str, Any]:
        """Everything the result depends on."""
        return {
            "condition": self.condition.identity(),
            "cache": self.cache_key,
            "recording": self.recording_digest,
            "solver": asdict(getattr(self.settings, self.settings.solver)),
            "version": RESULT_VERSION,
        }

    @property
    def key(self) -> str:
        """Hash of everything the result depends on."""
        return hashlib.sha256(canonical_json(self.inputs).encode()).hexdigest()


def digest_recording(recording: Recording) -> str:
    """Hash of a recording's content: everything that a fit or its table depends on."""
    content = hashlib.sha256()
    for name, value in vars(recording).items():
        content.update(name.encode())
        if isinstance(value, np.ndarray):
            content.update(f"{value.shape} {value.dtype.str}".encode())
            content.update(np.ascontiguousarray(value).data)
        else:
            content.update(repr(value).encode())
    return content.hexdigest()


def fit_all(
    tasks: Sequence[FitTask], *, workers: int
) -> Iterator[FittedCondition | FailedCondition]:
    """Fit many conditions, `workers` at a time, yielding each as it is done (in any order)."""
    workers = min(workers, len(tasks))
    if workers <= 1 or any(task.device != "cpu" for task in tasks):
        yield from (attempt(fit_condition, task) for task in tasks)
        return
    shares = [
        task
        if task.memory_limit is None
        else replace(task, memory_limit=task.memory_limit // workers)
        for task in tasks
    ]
    parallel = joblib.Parallel(n_jobs=workers, return_as="generator_unordered")
    yield from parallel(joblib.delayed(attempt)(fit_condition, task) for task in shares)


def fit_condition(task: FitTask) -> FittedCondition:
    """Fit and score one condition.

    Raises
    ------
    CacheError
        The cache lacks the block or images.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _fit_condition(task)
    finally:
        torch.set_num_threads(threads)


def _fit_condition(task: FitTask) -> FittedCondition:
    started = time.perf_counter()
    recording, condition = task.recording, task.condition
    trials = _trials(task)
    training, validation, test = _tokens(task, trials)
    r_validation = recording.responses[trials.validation]
    readouts = fit_readouts(
        training,
        recording.responses[trials.training],
        validation,
        r_validation,
        solver=task.settings.solver,
        seed=condition.seed,
        neurons=recording.neurons,
        settings=getattr(task.settings, task.settings.solver),
        device=task.device,
        memory_limit=task.memory_limit,
        statistics=_statistics(task, trials),
    )
    test_predictions = _predict(readouts, test, task.device)
    explained = variance_explained(r_validation, _predict(readouts, validation, task.device))
    return FittedCondition(
        condition=condition,
        key=task.key,
        inputs=task.inputs,
        readouts=readouts,
        columns=score(recording, test_predictions) | {"val_varexp": explained},
        test_image_ids=recording.test_image_ids,
        test_predictions=test_predictions,
        weights=task.weights,
        cache_key=task.cache_key,
        seconds=time.perf_counter() - started,
        extra={"output": readouts.output},
    )


@dataclass(frozen=True)
class _Trials:
    """Positions of a recording's training and validation trials, in the order they are read."""

    training: NDArray[np.intp]
    validation: NDArray[np.intp]


def _trials(task: FitTask) -> _Trials:
    """In the recording's order for "adamw", whose batches follow from it, else in the cache's."""
    recording = task.recording
    position = np.arange(len(recording.image_ids))
    if task.settings.solver != "adamw":
        position = np.argsort(open_cache(task.cache_path).rows(recording.image_ids), kind="stable")
    held_out = recording.validation[position]
    return _Trials(training=position[~held_out], validation=position[held_out])


def _tokens(task: FitTask, trials: _Trials) -> list[Tokens]:
    """Tokens of training, validation and test: in memory where they take little of the limit."""
    condition, recording = task.condition, task.recording
    assert condition.tokens is not None and condition.blocks is not None
    cache = open_cache(task.cache_path)
    parts = (
        recording.image_ids[trials.training],
        recording.image_ids[trials.validation],
        recording.test_image_ids,
    )
    every = CachedTokens(
        [cache.block(int(block)) for block in condition.blocks.split("+")],
        KINDS[condition.tokens],
        np.concatenate(parts),
    )
    if task.memory_limit is not None and every.stored_bytes > IN_MEMORY * task.memory_limit:
        return [replace(every, image_ids=part) for part in parts]
    # One read: the parts share chunks, and a chunk may come over a network.
    tensor = every.read(0, len(every.image_ids))
    return [ArrayTokens(part) for part in tensor.split([len(part) for part in parts])]


def _statistics(task: FitTask, trials: _Trials) -> StatisticsFolder | None:
    if task.statistics is None:
        return None
    content = {
        "cache": task.cache_key,
        "tokens": task.condition.tokens,
        "blocks": task.condition.blocks,
        "images": task.recording.image_ids[trials.training].tolist(),
    }
    key = hashlib.sha256(canonical_json(content).encode()).hexdigest()
    return StatisticsFolder(task.statistics, key)


def _predict(readouts: Readouts, tokens: Tokens, device: str) -> NDArray[np.float32]:
    parts = partitions(tokens.shape)
    return np.concatenate([readouts.predict(tokens.read(*part), device=device) for part in parts])


def score(recording: Recording, test_predictions: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    """Per-neuron results on the test images, whatever made the predictions.

    Parameters
    ----------
    recording : Recording
        Responses in the units of the predictions.
    test_predictions : array of shape (n_test, n_neurons)

    Returns
    -------
    dict of array of shape (n_neurons,)
        By the column names of the results.
    """
    responses = recording.test_responses
    fev, feve = fev_and_feve(responses, test_predictions)
    there = np.isfinite(responses)
    counts = there.sum(axis=1)
    seen = counts.min(axis=1) > 0
    mean = np.where(there, responses, 0).sum(axis=1)[seen] / counts[seen]
    columns: dict[str, NDArray[Any]] = {"neuron": recording.neurons}
    for name in ("unit_id", "x", "y"):
        values = recording.unit_ids if name == "unit_id" else getattr(recording, name)
        if values is not None:
            columns[name] = values
    return columns | {
        "fev": fev,
        "feve": feve,
        "test_correlation": correlation(mean, test_predictions[seen]),
        "n_repeats": np.full(recording.n_neurons, int(counts.max()), dtype=np.int64),
    }
