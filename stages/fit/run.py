"""One condition fitted and scored: from cached tokens to readouts and their table.

Every condition is fitted on one thread, so that its result does not depend on how many run beside
it. Nothing here needs the backbone.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stages.fit.inputs import open_trials, trials_of
from stages.fit.task import FitTask
from stages.readouts.readout import Readouts, predict
from stages.readouts.saved import FittedCondition
from stages.readouts.solvers import SOLVERS
from stages.scores import score, variance_explained


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
    with open_trials(task, trials) as (data, scale, test):
        fitted = SOLVERS[task.settings.solver].fit(data, task.settings.of_solver)
        readouts = replace(fitted, scale=scale)
        test_predictions = predict(readouts, test, task.device)
        predicted = predict(readouts, data.x_validation, task.device)
    responses = task.recording.responses[trials.validation]
    return fitted_condition(
        task,
        readouts,
        test_predictions=test_predictions,
        explained=variance_explained(responses, predicted),
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
