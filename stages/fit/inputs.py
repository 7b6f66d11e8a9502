"""Which trials a fit takes in which order, and their tokens: in memory, arriving or streamed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cache import open_cache
from stages.executors.resources import PROCESS
from stages.readouts.adamw import descent_memory
from stages.readouts.als.memory import Problem, least_memory
from stages.readouts.als.partition import largest_group
from stages.readouts.als.polish import SLOPE_TRIALS
from stages.tokens.cached import KINDS, CachedTokens
from stages.tokens.prefetch import Arrival
from stages.tokens.random_access import IN_MEMORY
from stages.tokens.tokens import Tokens

if TYPE_CHECKING:
    from stages.fit.task import FitTask


@dataclass(frozen=True)
class Trials:
    """Positions of a recording's training and validation trials, in the order they are read."""

    training: NDArray[np.intp]
    validation: NDArray[np.intp]


@dataclass(frozen=True)
class FitTokens:
    """Tokens of training, validation and test trials."""

    training: Tokens
    validation: Tokens
    test: Tokens


def trials_of(task: FitTask) -> Trials:
    """In the recording's order for "adamw", whose batches follow from it, else in the cache's."""
    recording = task.recording
    position = np.arange(len(recording.image_ids))
    if task.settings.solver != "adamw":
        position = np.argsort(open_cache(task.cache_path).rows(recording.image_ids), kind="stable")
    held_out = recording.validation[position]
    return Trials(training=position[~held_out], validation=position[held_out])


def cached_tokens(task: FitTask, trials: Trials) -> tuple[CachedTokens, list[int]]:
    """Tokens of all trials, training, validation and test, and the borders between them."""
    condition, recording = task.condition, task.recording
    assert condition.tokens is not None and condition.blocks is not None
    cache = open_cache(task.cache_path)
    parts = (
        recording.image_ids[trials.training],
        recording.image_ids[trials.validation],
        recording.test_image_ids,
    )
    tokens = CachedTokens(
        [cache.block(int(block)) for block in condition.blocks.split("+")],
        KINDS[condition.tokens],
        np.concatenate(parts),
    )
    return tokens, [0, *(int(end) for end in np.cumsum([len(part) for part in parts]))]


@contextmanager
def fit_tokens(task: FitTask, trials: Trials) -> Iterator[FitTokens]:
    """The tokens to fit on: in memory where they take little of the limit."""
    every, borders = cached_tokens(task, trials)
    ranges = list(pairwise(borders))
    if task.memory_limit is not None and every.stored_bytes > IN_MEMORY * task.memory_limit:
        yield FitTokens(*(replace(every, image_ids=every.image_ids[a:b]) for a, b in ranges))
        return
    # One read: the parts share chunks, and a chunk may come over a network.
    arrival = Arrival(every)
    try:
        yield FitTokens(*(arrival.part(a, b) for a, b in ranges))
    finally:
        arrival.stop()


def problem_of(task: FitTask) -> Problem:
    """The sizes of a fit by "als", with as many components as there may be."""
    tokens, borders = cached_tokens(task, trials_of(task))
    _, rows, columns, channels = tokens.shape
    settings = task.settings.als
    return Problem(
        n_trials=borders[2],
        n_rows=rows,
        n_columns=columns,
        n_components=min(settings.max_components, channels),
        n_neurons=task.recording.n_neurons,
        n_penalties=len(settings.penalties),
        n_slope_trials=min(borders[2], 2 * SLOPE_TRIALS),
    )


def needed_memory(task: FitTask, *, divided: bool = False) -> int:
    """Bytes that a process needs at least to fit one condition.

    Parameters
    ----------
    divided : bool
        Or one of its parts, which holds the responses of one group of neurons.
    """
    responses = 2 * task.recording.responses.nbytes
    if task.settings.solver == "als":
        problem = problem_of(task)
        if divided:
            group = min(problem.n_neurons, largest_group(problem.n_neurons))
            responses = responses * group // (2 * problem.n_neurons)
            problem = replace(problem, n_neurons=group)
        return PROCESS + responses + least_memory(problem)
    _, rows, columns, channels = cached_tokens(task, trials_of(task))[0].shape
    return (
        PROCESS
        + responses
        + descent_memory(
            (rows, columns, channels), task.recording.n_neurons, task.settings.adamw.batch_size
        )
    )
