"""Sizes of fits, and what follows from them: time, bytes read, and memory."""

from __future__ import annotations

from cache import TokenShape
from stages.conditions import Condition
from stages.costs import Cost
from stages.executors.resources import PROCESS
from stages.fit.inputs import TaskSource
from stages.fit.task import FitTask
from stages.readouts.settings import ReadoutSettings
from stages.readouts.solver_protocol import FitSize
from stages.readouts.solvers import SOLVERS


def planned_size(
    condition: Condition, tokens: TokenShape, *, n_trials: int, n_test: int, n_neurons: int
) -> FitSize:
    """The sizes of a condition's fit, from the sizes of its recording and of its cache.

    Parameters
    ----------
    n_trials : int
        Training and validation trials together.
    """
    rows, columns = tokens.grid if condition.tokens == "patch" else (1, 1)
    return FitSize(
        n_trials=n_trials,
        n_rows=rows,
        n_columns=columns,
        n_channels=tokens.n_channels * (1 + (condition.blocks or "").count("+")),
        n_neurons=n_neurons,
        n_test=n_test,
        item_bytes=2 if tokens.dtype == "float16" else 4,
    )


def fit_cost(
    size: FitSize,
    settings: ReadoutSettings,
    *,
    n_fits: int,
    workers: int | None,
    memory_limit: int | None = None,
) -> Cost:
    """The cost of one fit, divided where `stages.fit.schedule.fit_all` would divide it.

    Parameters
    ----------
    n_fits : int
        As many are to be done.
    workers : int, optional
        Tasks at a time; None where nobody knows.
    memory_limit : int, optional
        Bytes that each worker may use.
    """
    few = workers is not None and n_fits < workers
    divided = (few or is_large(size.responses, memory_limit)) and workers != 1
    solver = SOLVERS[settings.solver]
    return solver.cost(size, settings.of_solver, divided=divided, memory_limit=memory_limit)


def is_large(responses: int, memory_limit: int | None) -> bool:
    """Whether all responses, as recorded and normalised, may be too many for one worker."""
    return memory_limit is not None and 4 * responses > memory_limit


def needed_memory(task: FitTask, *, divided: bool = False) -> int:
    """Bytes that a process needs at least to fit one condition.

    Parameters
    ----------
    divided : bool
        Or one of its parts.
    """
    solver, size = SOLVERS[task.settings.solver], TaskSource(task).size
    return PROCESS + solver.least_memory(size, task.settings.of_solver, divided=divided)
