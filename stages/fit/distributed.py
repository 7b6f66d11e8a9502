"""One condition fitted by many workers, where its solver has parts for them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from stages.executors.executor import Executor
from stages.fit.inputs import TaskSource
from stages.fit.run import fitted_condition
from stages.fit.task import FitTask
from stages.readouts.saved import FittedCondition
from stages.readouts.solver_protocol import DividedFit
from stages.readouts.solvers import SOLVERS


def is_divisible(task: FitTask) -> bool:
    """Whether a fit has parts that several workers could compute at a time."""
    return _divided(task) is not None


def n_parts(task: FitTask) -> int:
    """Parts that `fit_divided` reports."""
    return _parts_of(task).n_parts


def n_together(task: FitTask) -> int:
    """Parts that may be computed at a time when most is to be done."""
    return _parts_of(task).n_together


def fit_divided(
    task: FitTask, executor: Executor, *, folder: Path, progress: Callable[[int], None]
) -> FittedCondition:
    """Fit and score one condition, part by part.

    Parameters
    ----------
    folder : path
        Of this condition alone; this process and all workers can write there.
    progress : callable
        Called with the number of parts that were done since.

    Raises
    ------
    CacheError, UserError
        As `stages.fit.run.fit_condition`.
    WorkersDied
        The same part lost its worker several times.
    """
    started = time.perf_counter()
    outcome = _parts_of(task).fit(executor, folder=folder, progress=progress)
    return fitted_condition(
        task,
        outcome.readouts,
        test_predictions=outcome.test_predictions,
        explained=outcome.explained,
        seconds=time.perf_counter() - started,
    )


def _divided(task: FitTask) -> DividedFit | None:
    return SOLVERS[task.settings.solver].divide(TaskSource(task), task.settings.of_solver)


def _parts_of(task: FitTask) -> DividedFit:
    divided = _divided(task)
    assert divided is not None, "is_divisible tells"
    return divided
