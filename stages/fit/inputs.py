"""Trials of a fit and their tokens: in memory, arriving or streamed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.fit.conditions import read_blocks
from stages.fit.task import FitTask
from stages.readouts.data import fit_data
from stages.readouts.sizes import FitSize
from stages.readouts.solver_protocol import OpenTrials
from stages.readouts.solvers import SOLVERS
from stages.tokens.cached import CachedTokens, open_planned
from stages.tokens.combined import CombinedTokens, open_combined
from stages.tokens.kinds import KINDS
from stages.tokens.prefetch import Arrival
from stages.tokens.tokens import IN_MEMORY, Tokens


def _tokens(task: FitTask, image_ids: NDArray[np.int64]) -> CachedTokens | CombinedTokens:
    """Tokens of some trials, from the caches that the task was planned for, opened again."""
    condition, images = task.condition, task.recording.all_image_ids
    if task.combined is not None:
        return open_combined(task.combined, image_ids, images=images)
    assert condition.tokens is not None
    cache = open_planned(
        task.cache_path, key=task.cache_key, images=images, sha256=task.images_sha256
    )
    blocks = [cache.block(block) for block in read_blocks(condition)]
    return CachedTokens(blocks, KINDS[condition.tokens], image_ids)


def _sources(task: FitTask) -> tuple[int, ...]:
    return () if task.combined is None else task.combined.channels


class Trials(NamedTuple):
    """Positions of a recording's training and validation trials, in the order they are read."""

    training: NDArray[np.intp]
    validation: NDArray[np.intp]


def trials_of(task: FitTask) -> Trials:
    """The trials, in the recording's order where the solver keeps it, else in that of the images.

    Caches hold images in the same order, but for those that they got later.
    """
    recording = task.recording
    position = np.arange(len(recording.image_ids))
    if not SOLVERS[task.settings.solver].keeps_order:
        position = np.argsort(recording.image_ids, kind="stable")
    held_out = recording.validation[position]
    return Trials(training=position[~held_out], validation=position[held_out])


def cached_tokens(task: FitTask, trials: Trials) -> tuple[CachedTokens | CombinedTokens, list[int]]:
    """Tokens of all trials, training, validation and test, and the borders between them."""
    recording = task.recording
    parts = (
        recording.image_ids[trials.training],
        recording.image_ids[trials.validation],
        recording.test_image_ids,
    )
    tokens = _tokens(task, np.concatenate(parts))
    return tokens, [0, *(int(end) for end in np.cumsum([len(part) for part in parts]))]


@contextmanager
def open_trials(
    task: FitTask, trials: Trials, *, neurons: slice = slice(None)
) -> Iterator[OpenTrials]:
    """The trials to fit on, with tokens in memory where they take little of the limit."""
    every, borders = cached_tokens(task, trials)
    limit = task.memory_limit
    streamed = limit is not None and every.stored_bytes > IN_MEMORY * limit
    # One read: the parts share chunks, and a chunk may come over a network.
    source = every if streamed else Arrival(every)
    training, validation, test = (source.part(*ends) for ends in pairwise(borders))
    responses = task.recording.responses[:, neurons]
    try:
        data, scale = fit_data(
            training,
            responses[trials.training],
            validation,
            responses[trials.validation],
            seed=task.condition.seed,
            neurons=task.recording.neurons[neurons],
            device=task.device,
            memory_limit=limit,
            overwrite=True,  # they are copies
            scale=task.scale[neurons],
            rates=SOLVERS[task.settings.solver].gives_rates(task.settings.of_solver),
            incomplete=task.recording.incomplete,
            sources=_sources(task),
        )
        yield OpenTrials(data=data, scale=scale, test=test)
    finally:
        if isinstance(source, Arrival):
            source.stop()


@dataclass(frozen=True)
class TaskSource:
    """A task's trials as a solver's parts read them: a `FitSource`."""

    task: FitTask

    @property
    def size(self) -> FitSize:
        """Sizes of the fit."""
        tokens, (_, _, n_trials, n_every) = cached_tokens(self.task, trials_of(self.task))
        _, rows, columns, channels = tokens.shape
        return FitSize(
            n_trials=n_trials,
            n_rows=rows,
            n_columns=columns,
            n_channels=channels,
            n_neurons=self.task.recording.n_neurons,
            n_test=n_every - n_trials,
            item_bytes=tokens.dtype.itemsize,
            incomplete=self.task.recording.incomplete,
        )

    @property
    def sources(self) -> tuple[int, ...]:
        """Channels of each source, where tokens are of several."""
        return _sources(self.task)

    @property
    def n_training(self) -> int:
        """Training trials."""
        return int((~self.task.recording.validation).sum())

    @property
    def device(self) -> str:
        """Where to compute."""
        return self.task.device

    @property
    def memory_limit(self) -> int | None:
        """Bytes that each process may use."""
        return self.task.memory_limit

    def training_tokens(self) -> Tokens:
        """Tokens of the training trials, streamed."""
        tokens, (_, n_training, *_) = cached_tokens(self.task, trials_of(self.task))
        return tokens.part(0, n_training)

    def validation_tokens(self) -> Tokens:
        """Tokens of the validation trials, streamed."""
        tokens, (_, *borders, _) = cached_tokens(self.task, trials_of(self.task))
        return tokens.part(*borders)

    def opened(self, neurons: slice) -> AbstractContextManager[OpenTrials]:
        """All trials, with the responses of some neurons."""
        return open_trials(self.task, trials_of(self.task), neurons=neurons)
