"""Stage two: from cached tokens to fitted and scored readouts, condition by condition.

Every condition is fitted on one thread, so that its result does not depend on how many run beside
it. Nothing here needs the backbone.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cache.format.identity import canonical_json
from stages.conditions import Condition
from stages.feve import fev_and_feve, feve_standard_error
from stages.fit.inputs import fit_tokens, statistics_of, trials_of
from stages.readouts.readout import Readouts
from stages.readouts.saved import FittedCondition
from stages.readouts.solvers import fit_readouts
from stages.recordings.recording import Recording
from stages.scores import correlation, variance_explained
from stages.settings import ReadoutSettings
from stages.tokens.tokens import Tokens, partitions, read_ahead

#: Raised whenever the same settings give other numbers than before: old results are refitted.
RESULT_VERSION = 4


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
        Bytes that the process may use; changes no result.
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
    trials = trials_of(task)
    recording = task.recording
    with fit_tokens(task, trials) as tokens:
        readouts = fit_readouts(
            tokens.training,
            recording.responses[trials.training],
            tokens.validation,
            recording.responses[trials.validation],
            solver=task.settings.solver,
            seed=task.condition.seed,
            neurons=recording.neurons,
            settings=getattr(task.settings, task.settings.solver),
            device=task.device,
            memory_limit=task.memory_limit,
            statistics=statistics_of(task, trials),
            overwrite=True,  # they are copies
        )
        test = predict(readouts, tokens.test, task.device)
        validation = predict(readouts, tokens.validation, task.device)
    return fitted_condition(
        task,
        readouts,
        test_predictions=test,
        explained=variance_explained(recording.responses[trials.validation], validation),
        seconds=time.perf_counter() - started,
    )


def fitted_condition(
    task: FitTask,
    readouts: Readouts,
    *,
    test_predictions: NDArray[np.float32],
    explained: NDArray[np.floating[Any]],
    seconds: float,
) -> FittedCondition:
    """The outcome of a task, scored.

    Parameters
    ----------
    test_predictions : array of shape (n_test, n_neurons)
    explained : array of shape (n_neurons,)
        Variance explained on the validation trials.
    """
    return FittedCondition(
        condition=task.condition,
        key=task.key,
        inputs=task.inputs,
        readouts=readouts,
        columns=score(task.recording, test_predictions) | {"val_varexp": explained},
        test_image_ids=task.recording.test_image_ids,
        test_predictions=test_predictions,
        weights=task.weights,
        cache_key=task.cache_key,
        seconds=seconds,
        extra={"output": readouts.output},
    )


def predict(readouts: Readouts, tokens: Tokens, device: str) -> NDArray[np.float32]:
    """Rates for all trials, part by part, array of shape (n_trials, n_neurons)."""
    parts = read_ahead(tokens, partitions(tokens.shape))
    return np.concatenate([readouts.predict(part, device=device) for _, _, part in parts])


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
        "feve_se": feve_standard_error(responses, test_predictions),
        "test_correlation": correlation(mean, test_predictions[seen]),
        "n_repeats": np.full(recording.n_neurons, int(counts.max()), dtype=np.int64),
    }
