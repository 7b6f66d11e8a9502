"""Trials of three tiers, and the fields of a recording that they make."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache import UserError
from stages.recordings.guards.limit import current_limit
from stages.recordings.readers.npy_archive import padded_repeats

#: The tiers of trials, as the Sensorium layout names them.
TIERS = ("train", "validation", "test")


def fields_of_tiers(
    image: NDArray[np.int64], responses: NDArray[np.float32], tiers: NDArray[np.str_], what: str
) -> dict[str, Any]:
    """The fields of `Recording` that trials of all tiers make; test trials of an image are repeats.

    Parameters
    ----------
    image, tiers : array of shape (n_trials,)
        Image id and tier of every trial, one of `TIERS`.
    responses : array of shape (n_trials, n_neurons)
        NaN where one is missing.
    what : str
        Where they come from, for messages.

    Raises
    ------
    UserError
        There is one test image, or the repeats take more memory than `check_size` allows.
    """
    single = tiers != "test"
    ids = np.unique(image[~single])
    if len(ids) == 1:
        raise UserError(
            f"{what} has one test image, {ids[0]}, and FEVE explains variance over images: give "
            "more images the tier test"
        )
    repeats = [responses[~single & (image == each)] for each in ids]
    return {
        "image_ids": image[single],
        "responses": responses[single],
        "validation": tiers[single] == "validation",
        "test_image_ids": ids,
        "test_responses": padded_repeats(repeats, responses.shape[1], what, current_limit()),
    }
