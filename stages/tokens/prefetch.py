"""Prefetched tokens: what has arrived in memory is computed on while the rest is read."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from stages.tokens.cached import CachedTokens
from stages.tokens.combined import CombinedTokens
from stages.tokens.tokens import settled


class Arrival:
    """One read of all tokens, in the order of the cache, by a thread of its own.

    Parts of the trials, which may be in any order, can be used as soon as they are there. Every
    chunk is read once, which counts where it comes over a network.
    """

    def __init__(self, source: CachedTokens | CombinedTokens) -> None:
        self._source = source
        steps = source.steps()
        #: The step in which each trial arrives.
        self._step = np.empty(source.shape[0], dtype=np.intp)
        for number, trials in enumerate(steps):
            self._step[trials] = number
        self.values = np.empty(source.shape, dtype=source.dtype)
        pool = ThreadPoolExecutor(1, "tokens")
        self._stopped = threading.Event()
        self._arrived: list[Future[None]] = [pool.submit(self._read, each) for each in steps]
        pool.shutdown(wait=False)

    def read(self, first: int, last: int) -> torch.Tensor:
        """Tokens of the trials first <= trial < last, when they are there.

        Raises
        ------
        CacheError
            They could not be read.
        """
        if first < last:
            for arrived in self._arrived[: int(self._step[first:last].max()) + 1]:
                arrived.result()
        return settled(torch.from_numpy(self.values[first:last]))

    def stop(self) -> None:
        """Read no more."""
        self._stopped.set()

    def _read(self, trials: NDArray[np.intp]) -> None:
        if not self._stopped.is_set():
            self.values[trials] = self._source.take(trials).numpy()

    def part(self, first: int, last: int) -> ArrivingTokens:
        """The trials first <= trial < last."""
        return ArrivingTokens(self, first, last)


@dataclass(frozen=True)
class ArrivingTokens:
    """Consecutive trials of an arrival; each read waits for its own."""

    arrival: Arrival
    first: int
    last: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Trials, rows, columns, channels."""
        _, rows, columns, channels = self.arrival.values.shape
        return self.last - self.first, rows, columns, channels

    def read(self, first: int, last: int) -> torch.Tensor:
        """Tokens of the trials first <= trial < last."""
        return self.arrival.read(self.first + first, self.first + last)
