"""Order of many fits on many workers: side by side, or one after the other in parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from threading import Lock

from stages.executors.executor import Executor
from stages.executors.reports import map_reporting
from stages.executors.resources import cpu_threads
from stages.failures import FailedCondition, attempt
from stages.fit.cost import is_large
from stages.fit.distributed import division, fit_divided
from stages.fit.run import fit_condition
from stages.fit.task import FitTask
from stages.readouts.saved import FittedCondition
from stages.readouts.solver_protocol import DividedFit
from stages.stage import Progress

#: Divided conditions that are fitted at a time at most: each has a thread of this process.
MOST_TOGETHER = 32


def fit_all(
    tasks: Sequence[FitTask],
    executor: Executor,
    *,
    folder: Path,
    progress: Progress | None = None,
) -> Iterator[FittedCondition | FailedCondition]:
    """Fit many conditions, yielding each as it is done (in any order).

    Where there are fewer conditions than workers, each is divided among them, and several are at
    work where they have fewer parts than there are workers; so are those whose responses would take
    much of a worker's memory.

    Parameters
    ----------
    folder : path
        For what parts of a condition leave to each other; all workers can write there.
    progress : callable, optional
        Called with a number of parts, `count_parts` altogether, and with what was done.

    Raises
    ------
    WorkersDied
        The same task lost its worker several times.
    """
    one = Lock()

    def done(number: float, text: str | None = None) -> None:
        if progress is not None:
            with one:
                progress(number, text)

    whole: list[FitTask] = []
    divided: list[FitTask] = []
    for task in tasks:
        limited = replace(task, memory_limit=executor.task_memory)
        (divided if _division(limited, len(tasks), executor) else whole).append(limited)
    for device in dict.fromkeys(task.device for task in whole):
        chosen = [task for task in whole if task.device == device]
        yield from map_reporting(
            executor,
            partial(attempt, fit_condition),
            chosen,
            name=attrgetter("condition.slug"),
            label=attrgetter("condition.label"),
            sizes=[1] * len(chosen),
            folder=folder / "reports",
            progress=done,
            device=device,
        )
    fits = [
        partial(
            attempt,
            partial(
                fit_divided,
                executor=executor,
                folder=folder / str(number),
                progress=partial(done, text=f"parts of {task.condition.label}"),
            ),
            task,
        )
        for number, task in enumerate(divided)
    ]
    number = most_together(divided, executor.workers) if executor.concurrent else 1
    if number == 1:
        yield from (fit() for fit in fits)
    else:
        yield from _together(fits, number, executor)


def _together(
    fits: Sequence[Callable[[], FittedCondition | FailedCondition]],
    number: int,
    executor: Executor,
) -> Iterator[FittedCondition | FailedCondition]:
    """So many at a time: while one waits for its last parts, others have work for the workers."""
    # Outside of all: numpy has one number of threads for the process, and each fit resets it.
    with cpu_threads(1), ThreadPoolExecutor(number, "fit") as threads:
        running = [threads.submit(fit) for fit in fits]
        try:
            for fitted in as_completed(running):
                yield fitted.result()
        finally:
            if not all(each.done() for each in running):
                executor.stop()
                threads.shutdown(cancel_futures=True)


def most_together(tasks: Sequence[FitTask], workers: int) -> int:
    """Divided conditions to be fitted at a time: enough parts for all workers, and one more."""
    parts = [each.n_together for each in map(division, one_of_each_size(tasks)) if each]
    return max(1, min(len(tasks), MOST_TOGETHER, 1 + -(-workers // min(parts, default=1))))


def one_of_each_size(tasks: Sequence[FitTask]) -> list[FitTask]:
    """Tasks that stand for all others in what they need: the same recording, cache and tokens."""
    sizes = {
        (
            task.cache_path,
            task.recording_digest,
            task.condition.tokens,
            (task.condition.blocks or "").count("+"),
            # Blocks of one cache may have grids and channels of their own.
            task.places,
            task.combined,
            task.settings.solver,
        ): task
        for task in tasks
    }
    return list(sizes.values())


def most_at_a_time(tasks: Sequence[FitTask], workers: int) -> int:
    """Of so many workers, those that will have something to do."""
    if workers <= len(tasks):
        return workers
    parts = [each.n_parts for each in map(division, one_of_each_size(tasks)) if each]
    return min(workers, max([len(tasks), *parts]))


def count_parts(tasks: Sequence[FitTask], executor: Executor) -> int:
    """Parts that `fit_all` reports: one per condition, more where it is divided."""
    divisions = [_division(task, len(tasks), executor) for task in tasks]
    return sum(each.n_parts if each else 1 for each in divisions)


def _division(task: FitTask, n_tasks: int, executor: Executor) -> DividedFit | None:
    large = is_large(task.recording.responses.nbytes, executor.task_memory)
    apart = executor.remote and (n_tasks < executor.workers or large)
    return division(task) if apart else None
