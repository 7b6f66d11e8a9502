"""Sizes of fits, and what follows from them: time, bytes read, and memory."""

from __future__ import annotations

from dataclasses import replace

from stages.costs import Cost
from stages.executors.resources import PROCESS
from stages.fit.conditions import read_blocks
from stages.fit.task import FitTask
from stages.readouts.settings import ReadoutSettings
from stages.readouts.sizes import FitSize
from stages.readouts.solvers import SOLVERS
from stages.stage import Planned
from stages.variant import Settings


def planned_size(planned: Planned) -> FitSize:
    """The sizes of a planned fit, whose counts are known."""
    condition, work = planned.condition, planned.work
    assert work.tokens is not None
    blocks = list(work.tokens.blocks)
    if condition.blocks is not None:
        blocks = [blocks[block] for block in read_blocks(condition)]
    rows, columns = blocks[0].grid if condition.tokens == "patch" else (1, 1)
    return FitSize(
        n_trials=work.trials or 0,
        n_rows=rows,
        n_columns=columns,
        n_channels=sum(block.n_channels for block in blocks),
        n_neurons=work.neurons or 0,
        n_test=work.test_images or 0,
        item_bytes=2 if work.tokens.dtype == "float16" else 4,
        incomplete=work.incomplete,
    )


def readout_of(planned: Planned, settings: Settings) -> ReadoutSettings:
    """Settings of a planned fit: those of the experiment, with the condition's solver."""
    return replace(settings.readout, solver=str(planned.condition.solver))


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
    """Bytes that a process needs at least to fit one condition, or, divided, one of its parts."""
    # Tokens are read with torch, and plans must do without it.
    from stages.fit.inputs import TaskSource

    return _least_memory(TaskSource(task).size, task.settings, divided=divided)


def planned_memory(planned: Planned, settings: Settings, *, divided: bool = False) -> int:
    """The same of a planned fit, whose counts are known."""
    return _least_memory(planned_size(planned), readout_of(planned, settings), divided=divided)


def _least_memory(size: FitSize, readout: ReadoutSettings, *, divided: bool) -> int:
    solver = SOLVERS[readout.solver]
    return PROCESS + solver.least_memory(size, readout.of_solver, divided=divided)
