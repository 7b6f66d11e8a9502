"""Fits of Poisson counts whose rates are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cache import open_cache
from stages.conditions import Condition
from stages.fit.task import FitTask
from stages.readouts.settings import ReadoutSettings
from stages.recordings.recording import Recording


def poisson_task(
    path: Path,
    rates: NDArray[np.float32],
    draw: np.random.Generator,
    *,
    n_test: int,
    settings: ReadoutSettings,
) -> FitTask:
    """The fit of Poisson counts with these `rates` of shape (n_images, n_neurons)."""
    cache, ids = open_cache(str(path)), np.arange(len(rates))
    trials, test = ids[:-n_test], ids[-n_test:]
    repeats = draw.poisson(rates[test][:, None], (n_test, 5, rates.shape[1]))
    return FitTask(
        condition=Condition(
            recording="noise", model="none", input_size="1x1", tokens="patch", block=0, blocks="0",
            solver="als",
        ),
        cache_path=str(path),
        cache_key=cache.key,
        weights="none",
        recording=Recording(
            name="noise",
            neurons=np.arange(rates.shape[1]),
            image_ids=trials,
            responses=draw.poisson(rates[trials]).astype(np.float32),
            validation=trials % 10 == 0,
            test_image_ids=test,
            test_responses=repeats.astype(np.float32),
        ),
        recording_digest="",
        settings=settings,
    )  # fmt: skip
