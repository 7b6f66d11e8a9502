"""Sizes of fits, and what follows from them: time, bytes read, and memory."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from stages.executors.resources import PROCESS
from stages.readouts.settings import ReadoutSettings
from stages.readouts.solver_protocol import FitSize
from stages.readouts.solvers import SOLVERS
from stages.stage import Planned

if TYPE_CHECKING:
    from stages.costs import Cost, Workers
    from stages.fit.task import FitTask
    from stages.variant import Settings


def fit_size(planned: Planned) -> FitSize:
    """The sizes of a planned fit, whose counts are known."""
    condition, work = planned.condition, planned.work
    assert work.tokens is not None
    tokens = work.tokens
    rows, columns = tokens.grid if condition.tokens == "patch" else (1, 1)
    return FitSize(
        n_trials=work.trials or 0,
        n_rows=rows,
        n_columns=columns,
        n_channels=tokens.n_channels * (1 + (condition.blocks or "").count("+")),
        n_neurons=work.neurons or 0,
        n_test=work.test_images or 0,
        item_bytes=2 if tokens.dtype == "float16" else 4,
    )


def planned_cost(planned: Planned, settings: Settings, workers: Workers, *, n_planned: int) -> Cost:
    """The cost of one fit, divided where `stages.fit.schedule.fit_all` would divide it.

    Parameters
    ----------
    n_planned : int
        Fits that are to be done.
    """
    size, readout = fit_size(planned), _readout(planned, settings)
    few = workers.number is not None and n_planned < workers.number
    large = is_large(size.responses, workers.task_memory)
    return SOLVERS[readout.solver].cost(
        size,
        readout.of_solver,
        divided=(few or large) and workers.number != 1,
        memory_limit=workers.task_memory,
    )


def planned_memory(planned: Planned, settings: Settings, *, divided: bool = False) -> int:
    """Bytes that a process needs at least to do a planned fit.

    Parameters
    ----------
    divided : bool
        Or one of its parts, where it has any.
    """
    readout = _readout(planned, settings)
    return _least_memory(fit_size(planned), readout, divided=divided)


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
    # Tokens are read with torch, and plans must do without it.
    from stages.fit.inputs import TaskSource

    return _least_memory(TaskSource(task).size, task.settings, divided=divided)


def _least_memory(size: FitSize, readout: ReadoutSettings, *, divided: bool) -> int:
    solver = SOLVERS[readout.solver]
    return PROCESS + solver.least_memory(size, readout.of_solver, divided=divided)


def _readout(planned: Planned, settings: Settings) -> ReadoutSettings:
    """The experiment's, with the solver of the condition: other stages start from another's."""
    solver = planned.condition.solver
    return settings.readout if solver is None else replace(settings.readout, solver=solver)
