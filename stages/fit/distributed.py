"""One condition fitted by many workers: shards of images, then groups of neurons.

Shards give partial moments and products of the tokens, which are summed in a tree; groups of
neurons then read the sums, and end as rows of the result. All numbers are those of a fit in one
process: the same parts are computed there, one after the other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from stages.executors.executor import Executor
from stages.fit.distributed_tasks import (
    Addition,
    Part,
    Rows,
    add_files,
    load_moments,
    polish_neurons,
    save_components,
    solve_neurons,
    sum_moments,
    sum_products,
)
from stages.fit.inputs import cached_tokens, trials_of
from stages.fit.run import fitted_condition
from stages.fit.task import FitTask
from stages.readouts.als.groups import Scores
from stages.readouts.als.partition import neuron_groups, reduction, shards
from stages.readouts.als.pca import components_of
from stages.readouts.als.solver import choose_penalties, polished_readouts
from stages.readouts.saved import FittedCondition

Advance = Callable[[int], None]
T = TypeVar("T")
R = TypeVar("R")


def is_divisible(task: FitTask) -> bool:
    """Whether a fit has parts that several workers could compute at a time."""
    settings = task.settings.als
    return (
        task.settings.solver == "als"
        and task.device == "cpu"
        and settings.output == "elu"
        and (len(_shards(task)) > 1 or len(_groups(task)) > 1)
    )


def n_parts(task: FitTask) -> int:
    """Parts that `fit_divided` reports."""
    return 2 * len(_shards(task)) + 2 * len(_groups(task))


def n_groups(task: FitTask) -> int:
    """Parts that may be computed at a time when most is to be done."""
    return len(_groups(task))


def fit_divided(
    task: FitTask, executor: Executor, *, folder: Path, progress: Advance
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
    folder.mkdir(parents=True, exist_ok=True)
    settings = task.settings.als
    of_shards = _parts(task, folder, _shards(task))
    of_groups = _parts(task, folder, _groups(task))

    def compute(function: Callable[[T], R], parts: Sequence[T]) -> list[R]:
        done: dict[int, R] = {}
        for position, result in executor.map(function, parts):
            done[position] = result
            progress(1)
        return [done[position] for position in range(len(parts))]

    moments = load_moments(_total(executor, compute(sum_moments, of_shards)))
    components = components_of(
        moments.mean,
        moments.scatter / moments.count,
        variance_kept=settings.variance_kept,
        max_components=settings.max_components,
        scale_limit=settings.scale_limit,
    )
    save_components(folder, components)
    _total(executor, compute(sum_products, of_shards)).replace(folder / "products.pt")
    scores: list[Scores] = compute(solve_neurons, of_groups)
    chosen = choose_penalties(scores, settings).numpy()
    rows: list[Rows] = compute(
        polish_neurons,
        [replace(part, chosen=chosen[part.first : part.last]) for part in of_groups],
    )
    variances = torch.cat([each.variances for each in scores])
    readouts = polished_readouts([each.polished for each in rows], components, variances)
    return fitted_condition(
        task,
        replace(readouts, scale=np.concatenate([each.scale for each in rows])),
        test_predictions=np.concatenate([each.test_predictions for each in rows], axis=1),
        explained=np.concatenate([each.explained for each in rows]),
        seconds=time.perf_counter() - started,
    )


def _total(executor: Executor, files: Sequence[Path]) -> Path:
    """The file of the sum of some files, in a tree of additions."""
    level = 0
    while len(files) > 1:
        folder = files[0].parent
        additions = [
            Addition(files=tuple(some), total=folder / f"{files[0].stem}-sum{level}-{number}.pt")
            for number, some in enumerate(reduction(files))
        ]
        totals: dict[int, Any] = dict(executor.map(add_files, additions))
        files, level = [totals[number] for number in range(len(additions))], level + 1
    return files[0]


def _shards(task: FitTask) -> list[tuple[int, int]]:
    tokens, (_, n_training, *_) = cached_tokens(task, trials_of(task))
    return shards((n_training, *tokens.shape[1:]))


def _groups(task: FitTask) -> list[tuple[int, int]]:
    return [(group.start, group.stop) for group in neuron_groups(task.recording.n_neurons)]


def _parts(task: FitTask, folder: Path, ranges: Sequence[tuple[int, int]]) -> list[Part]:
    return [Part(task=task, folder=folder, first=first, last=last) for first, last in ranges]
