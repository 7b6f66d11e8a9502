"""One condition fitted by many workers, where its solver has parts for them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from stages.executors.executor import Executor
from stages.executors.resources import cpu_threads
from stages.fit.inputs import TaskSource
from stages.fit.run import fitted_condition
from stages.fit.task import FitTask
from stages.readouts.saved import FittedCondition
from stages.readouts.solver_protocol import DividedFit
from stages.readouts.solvers import SOLVERS


def division(task: FitTask) -> DividedFit | None:
    """A fit in parts; None where it has none that several workers could compute at a time."""
    return SOLVERS[task.settings.solver].divide(TaskSource(task), task.settings.of_solver)


@cpu_threads(1)
def fit_divided(
    task: FitTask, executor: Executor, *, folder: Path, progress: Callable[[int], None]
) -> FittedCondition:
    """Fit and score one condition that has parts, part by part; see `DividedFit.fit`."""
    started = time.perf_counter()
    divided = division(task)
    assert divided is not None
    outcome = divided.fit(executor, folder=folder, progress=progress)
    return fitted_condition(task, outcome, seconds=time.perf_counter() - started)
