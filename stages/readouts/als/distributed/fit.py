"""A fit divided among workers: shards of trials, then groups of neurons.

Shards give partial moments and products of the tokens, which are summed in a tree; groups of
neurons then read the sums, and end as rows of the result. All numbers are those of a fit in one
process: the same parts are computed there, one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from stages.executors.executor import Executor
from stages.readouts.als.distributed.tasks import (
    Addition,
    FittedGroup,
    Part,
    add_files,
    load_moments,
    moments_of_shard,
    polish_neurons,
    products_of_shard,
    save_components,
    solve_neurons,
)
from stages.readouts.als.fit import choose_penalties, polished_readouts
from stages.readouts.als.groups import Scores
from stages.readouts.als.partition import neuron_groups, reduction, shards
from stages.readouts.als.pca import components_of
from stages.readouts.solver_protocol import FitSource, Outcome
from stages.readouts.solver_settings import ALSSettings

_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass(frozen=True, kw_only=True)
class DividedALS:
    """One condition's fit in parts.

    Parameters
    ----------
    source : FitSource
        Its trials.
    settings : ALSSettings
    shards : sequence of pair of int
        First and last training trial of every shard.
    groups : sequence of pair of int
        First and last neuron of every group.
    """

    source: FitSource
    settings: ALSSettings
    shards: Sequence[tuple[int, int]]
    groups: Sequence[tuple[int, int]]

    @classmethod
    def of(cls, source: FitSource, settings: ALSSettings) -> DividedALS:
        """The fit of some trials, divided by their sizes."""
        size = source.size
        shape = source.n_training, size.n_rows, size.n_columns, size.n_channels
        return cls(
            source=source,
            settings=settings,
            shards=shards(shape),
            groups=[(group.start, group.stop) for group in neuron_groups(size.n_neurons)],
        )

    @property
    def n_parts(self) -> int:
        """Parts that `fit` reports."""
        return 2 * len(self.shards) + 2 * len(self.groups)

    @property
    def n_together(self) -> int:
        """Parts that may be computed at a time when most is to be done."""
        return len(self.groups)

    def fit(self, executor: Executor, *, folder: Path, progress: Callable[[int], None]) -> Outcome:
        """Fit, and predict the test images, part by part."""
        folder.mkdir(parents=True, exist_ok=True)
        settings = self.settings
        of_shards = self._parts(folder, self.shards)
        of_groups = self._parts(folder, self.groups)

        def compute(function: Callable[[_T], _R], parts: Sequence[_T]) -> list[_R]:
            done: dict[int, _R] = {}
            for position, result in executor.map(function, parts):
                done[position] = result
                progress(1)
            return [done[position] for position in range(len(parts))]

        moments = load_moments(_total(executor, compute(moments_of_shard, of_shards)))
        components = components_of(
            moments.mean,
            moments.scatter / moments.count,
            variance_kept=settings.variance_kept,
            max_components=settings.max_components,
            scale_limit=settings.scale_limit,
        )
        save_components(folder, components)
        _total(executor, compute(products_of_shard, of_shards)).replace(folder / "products.pt")
        scores: list[Scores] = compute(solve_neurons, of_groups)
        chosen = choose_penalties(scores, settings).numpy()
        rows: list[FittedGroup] = compute(
            polish_neurons,
            [replace(part, chosen=chosen[part.first : part.last]) for part in of_groups],
        )
        variances = torch.cat([each.variances for each in scores])
        readouts = polished_readouts([each.polished for each in rows], components, variances)
        return Outcome(
            readouts=replace(readouts, scale=np.concatenate([each.scale for each in rows])),
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
