"""Splits of trials into tiers by the image that they show."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cache import UserError

if TYPE_CHECKING:
    from stages.recordings.split_settings import SplitSettings


def split_tiers(image: NDArray[np.int64], settings: SplitSettings, what: str) -> NDArray[np.str_]:
    """Tier of each trial: "train", "validation" or "test"; all trials of an image have one tier.

    Parameters
    ----------
    image : array of shape (n_trials,)
        Image id of every trial, in any order: the split depends on the ids and counts alone.
    settings : SplitSettings
        What belongs to which tier.
    what : str
        Name of the recording, for messages.

    Returns
    -------
    array of str of shape (n_trials,)

    Raises
    ------
    UserError
        No image with enough repeats, or none left for training and validation.
    """
    ids, row, repeats = np.unique(image, return_inverse=True, return_counts=True)
    draw = np.random.default_rng(settings.seed)
    test = np.flatnonzero(repeats >= settings.min_repeats)
    if not len(test):
        raise UserError(
            f"{what}: none of {len(ids)} images was shown {settings.min_repeats} times or more "
            f"(the most is {repeats.max(initial=0)}), so none can be for test: lower "
            "recording.split.min_repeats, or use a recording with repeated images"
        )
    if settings.test != "repeated":
        test = draw.permutation(test)[: _part(settings.test, len(test))]
    others = np.setdiff1d(np.arange(len(ids)), test)
    if len(others) < 2:
        raise UserError(
            f"{what}: {len(test)} of {len(ids)} images are for test, which leaves {len(others)} "
            "for training and validation: set recording.split.test to a fraction, such as 0.2"
        )
    validation = draw.permutation(others)[: _part(settings.validation, len(others) - 1)]
    tiers = np.full(len(ids), "train", dtype="U10")
    tiers[test], tiers[validation] = "test", "validation"
    return tiers[row]


def _part(fraction: float, whole: int) -> int:
    """So many of a whole, at least one and at most all."""
    return min(max(round(fraction * whole), 1), whole)
