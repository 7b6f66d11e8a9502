"""One condition fitted and scored: from cached tokens to readouts and their table.

Every condition is fitted on one thread, so that its result does not depend on how many run beside
it, and predicted in the groups in which workers would predict it. Nothing here needs the backbone.
"""

from __future__ import annotations

import time

from stages.executors.resources import cpu_threads
from stages.fit.inputs import open_trials, trials_of
from stages.fit.task import FitTask
from stages.readouts.readout import predict
from stages.readouts.saved import FittedCondition
from stages.readouts.solver_protocol import Outcome
from stages.readouts.solvers import SOLVERS
from stages.scores import mean_responses, score, variance_explained


@cpu_threads(1)
def fit_condition(task: FitTask) -> FittedCondition:
    """Fit and score one condition.

    Raises
    ------
    CacheError
        The cache lacks the block or images.
    """
    started, solver = time.perf_counter(), SOLVERS[task.settings.solver]
    groups = solver.groups(task.recording.n_neurons)
    with open_trials(task, trials_of(task)) as (data, scale, test):
        readouts = solver.fit(data, task.settings.of_solver).scaled(scale)
        test_predictions = predict(readouts, test, task.device, groups=groups)
        predicted = predict(readouts.held_out, data.x_validation, task.device, groups=groups)
        explained = variance_explained(data.r_validation.numpy() * scale, predicted)
    outcome = Outcome(readouts, test_predictions, explained)
    return fitted_condition(task, outcome, seconds=time.perf_counter() - started)


def fitted_condition(task: FitTask, outcome: Outcome, *, seconds: float) -> FittedCondition:
    """The outcome of a task, scored."""
    columns = score(task.recording, outcome.test_predictions, explained=outcome.explained)
    return FittedCondition(
        condition=task.condition,
        key=task.key,
        inputs=task.inputs,
        readouts=outcome.readouts,
        columns=columns,
        test_image_ids=task.recording.test_image_ids,
        test_predictions=outcome.test_predictions,
        test_responses=mean_responses(task.recording),
        weights=task.weights,
        cache_key=task.cache_key,
        seconds=seconds,
        places=task.places,
        extra={
            "output": outcome.readouts.output,
            "network": {"stage": "fit", **task.network},
        },
    )
