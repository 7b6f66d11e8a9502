"""Splits of trials into tiers by the image that they show, and recordings from such trials."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cache import UserError
from stages.recordings.guards.limit import current_limit
from stages.recordings.readers.npy_archive import padded_repeats

if TYPE_CHECKING:
    from stages.recordings.split_settings import SplitSettings

#: The tiers of trials, as the Sensorium layout names them.
TIERS = ("train", "validation", "test")


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
    tiers = np.full(len(ids), "train", dtype="U10")
    tiers[test], tiers[_validation(others, settings, draw)] = "test", "validation"
    return tiers[row]


def split_validation(image: NDArray[np.int64], settings: SplitSettings) -> NDArray[np.bool_]:
    """Which trials are for validation where all others are for training, of shape (n_trials,).

    All trials of an image (n_trials,) are on one side. There is one image, or none, on the side of
    training where there are only so many.
    """
    ids, row = np.unique(image, return_inverse=True)
    chosen = _validation(np.arange(len(ids)), settings, np.random.default_rng(settings.seed))
    return np.isin(row, chosen)


def fields_of_tiers(
    image: NDArray[np.int64], responses: NDArray[np.float32], tiers: NDArray[np.str_], what: str
) -> dict[str, Any]:
    """The fields of `Recording` that trials of all tiers make; test trials of an image are repeats.

    Parameters
    ----------
    image, tiers : array of shape (n_trials,)
        Image id and tier of every trial: "train", "validation" or "test".
    responses : array of shape (n_trials, n_neurons)
        NaN where one is missing.
    what : str
        Where they come from, for messages.

    Raises
    ------
    UserError
        The repeats in one array would take more memory than `check_size` allows.
    """
    single = tiers != "test"
    ids = np.unique(image[~single])
    repeats = [responses[~single & (image == each)] for each in ids]
    return {
        "image_ids": image[single],
        "responses": responses[single],
        "validation": tiers[single] == "validation",
        "test_image_ids": ids,
        "test_responses": padded_repeats(repeats, responses.shape[1], what, current_limit()),
    }


def _validation(
    images: NDArray[np.intp], settings: SplitSettings, draw: np.random.Generator
) -> NDArray[np.intp]:
    """Those of the images, n_images or fewer, that are drawn for validation."""
    return draw.permutation(images)[: _part(settings.validation, len(images) - 1)]


def _part(fraction: float, whole: int) -> int:
    """So many of a whole, at least one and at most all."""
    return min(max(round(fraction * whole), 1), whole)
