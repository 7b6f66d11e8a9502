"""A fit divided among workers: shards of trials, then groups of neurons.

All numbers are those of a fit in one process: the same parts are computed there, one after the
other, and added in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from stages.executors.executor import Executor
from stages.readouts.als.distributed.tasks import (
    FittedGroup,
    Part,
    add_files,
    finish_neurons,
    load_values,
    moments_of_shard,
    products_of_shard,
    save_values,
    solve_neurons,
)
from stages.readouts.als.fit import choose_penalties, finished_readouts
from stages.readouts.als.memory import problem_of
from stages.readouts.als.partition import neuron_groups, reduction, shards
from stages.readouts.als.pca import ChannelMoments, components_of
from stages.readouts.solver_protocol import FitSource, Outcome
from stages.readouts.solver_settings import ALSSettings

_T = TypeVar("_T")
_R = TypeVar("_R")


class DividedALS:
    """One condition's fit in parts."""

    def __init__(self, source: FitSource, settings: ALSSettings) -> None:
        self.source = source
        self.settings = settings
        size = source.size
        #: First and last training trial of every shard, first and last neuron of every group.
        self.shards = shards((source.n_training, size.n_rows, size.n_columns, size.n_channels))
        n_held_out = size.n_trials - source.n_training
        #: Of the validation trials, where they are fitted, too.
        grid = size.n_rows, size.n_columns, size.n_channels
        problem = problem_of(size, settings)
        again = settings.refit and not problem.on_trials
        self.held_out = shards((n_held_out, *grid)) if again else []
        self.groups = [(group.start, group.stop) for group in neuron_groups(size.n_neurons)]
        self.n_parts = 2 * len(self.shards) + len(self.held_out) + 2 * len(self.groups)
        self.n_together = len(self.groups)

    def fit(self, executor: Executor, *, folder: Path, progress: Callable[[int], None]) -> Outcome:
        """Fit, and predict the test images, part by part."""
        folder.mkdir(parents=True, exist_ok=True)
        settings = self.settings
        of_shards = self._parts(folder, self.shards)
        of_held_out = [replace(p, held_out=True) for p in self._parts(folder, self.held_out)]
        of_groups = self._parts(folder, self.groups)

        def compute(function: Callable[[_T], _R], parts: Sequence[_T]) -> list[_R]:
            done: dict[int, _R] = {}
            for position, result in executor.map(function, parts):
                done[position] = result
                progress(1)
            return [done[position] for position in range(len(parts))]

        moments = load_values(_total(executor, compute(moments_of_shard, of_shards)))
        components = components_of(ChannelMoments(**moments), settings, self.source.sources)
        save_values(folder / "components.pt", vars(components))
        _total(executor, compute(products_of_shard, of_shards)).replace(folder / "products.pt")
        if of_held_out:
            more = _total(executor, compute(products_of_shard, of_held_out))
            more.replace(folder / "held-out-products.pt")
        chosen = choose_penalties(compute(solve_neurons, of_groups), settings).numpy()
        rows: list[FittedGroup] = compute(
            finish_neurons,
            [replace(part, chosen=chosen[part.first : part.last]) for part in of_groups],
        )
        readouts = finished_readouts([each.finished for each in rows], components)
        return Outcome(
            readouts=readouts.scaled(np.concatenate([each.scale for each in rows])),
            test_predictions=np.concatenate([each.test_predictions for each in rows], axis=1),
            explained=np.concatenate([each.explained for each in rows]),
        )

    def _parts(self, folder: Path, ranges: Sequence[tuple[int, int]]) -> list[Part]:
        return [
            Part(source=self.source, settings=self.settings, folder=folder, first=first, last=last)
            for first, last in ranges
        ]


def _total(executor: Executor, files: Sequence[Path]) -> Path:
    """The file of the sum of some files, in a tree of additions."""
    while len(files) > 1:
        sums = dict(executor.map(add_files, reduction(files)))
        files = [sums[number] for number in range(len(sums))]
    return files[0]
