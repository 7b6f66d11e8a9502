"""Fits of tokens that are made up as they are read: any size, no disk, and little work."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch

from stages.readouts import ALSSettings, fit_readouts


@dataclass(frozen=True)
class MadeUp:
    """Tokens made up as they are read, and as fast: every trial's are the same for every reader."""

    n_trials: int
    noise: torch.Tensor

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Trials, rows, columns, channels."""
        rows, columns, channels = self.noise.shape[1:]
        return self.n_trials, rows, columns, channels

    def read(self, first: int, last: int) -> torch.Tensor:
        """Tokens of the trials first <= trial < last."""
        trials = torch.arange(first, last)
        return self.noise[(trials * 7919 + trials // 509) % len(self.noise)]


@dataclass(frozen=True)
class MadeUpTask:
    """One of the workers' fits: so many trials, within so many bytes."""

    n_trials: int
    memory_limit: int | None


def fit_made_up(task: MadeUpTask) -> float:
    """Seconds of one fit of 64 neurons that reads its tokens for every pass."""
    draw = torch.Generator().manual_seed(0)
    falling = torch.arange(1, 385) ** -0.75
    tokens = MadeUp(task.n_trials, (torch.randn(509, 4, 8, 384, generator=draw) * falling).half())
    responses = np.random.default_rng(0).exponential(size=(task.n_trials, 64)).astype(np.float32)
    held_out = MadeUp(2000, tokens.noise)
    settings = ALSSettings(max_components=32, refit=False)

    started = time.perf_counter()
    fit_readouts(
        tokens,
        responses,
        held_out,
        responses[:2000],
        settings=settings,
        memory_limit=task.memory_limit,
    )
    return time.perf_counter() - started
