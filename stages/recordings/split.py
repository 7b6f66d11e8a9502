"""The split of a recording by images: no image is in two tiers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cache import UserError

if TYPE_CHECKING:
    from stages.recordings.array_settings import SplitSettings

#: Fraction of the repeated images that is for testing where fewer than this part of all images
#: would be left.
OF_ALL = 0.2

#: What files call the tiers.
SYNONYMS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "val", "valid"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def split_by_image(
    name: str, shown: NDArray[np.int64], settings: SplitSettings
) -> tuple[NDArray[np.str_], str]:
    """Tier of every trial, and a sentence on how it was found.

    Parameters
    ----------
    shown : array of shape (n_trials,)
        Id of the image of each trial.

    Raises
    ------
    UserError
        No image was shown often enough, or too few images for three tiers.
    """
    images, counts = np.unique(shown, return_counts=True)
    repeated = images[counts >= settings.min_repeats]
    if len(repeated) < 2:
        raise UserError(
            f"recording {name}: {len(repeated)} of {len(images)} images were shown at least "
            f"{settings.min_repeats} times (the most is {counts.max(initial=0)}), and FEVE needs "
            "two repeated test images: lower recording.split.min_repeats, or give each trial a tier"
        )
    rng = np.random.default_rng(settings.seed)
    fraction: float | str = settings.test
    if fraction == "repeated" and len(images) - len(repeated) < OF_ALL * len(images):
        fraction = OF_ALL
    if isinstance(fraction, str):
        test = repeated
    else:
        test = rng.permutation(repeated)[: max(2, round(fraction * len(repeated)))]
    left = np.setdiff1d(images, test)
    validation = drawn_images(name, left, settings.validation, rng)
    tiers = np.full(len(shown), "train", dtype="<U10")
    tiers[np.isin(shown, test)] = "test"
    tiers[np.isin(shown, validation)] = "validation"
    told = (
        f"recording {name}: {len(left) - len(validation)} images are for training, "
        f"{len(validation)} for validation and {len(test)} for testing, split by image (seed "
        f"{settings.seed})"
    )
    return tiers, told


def tiers_of_file(
    name: str, given: NDArray[Any], shown: NDArray[np.int64], settings: SplitSettings
) -> tuple[NDArray[np.str_], str | None]:
    """Tier of every trial as a file tells it, "" where it is none that is read.

    Where it tells no validation trials, images of the training trials are drawn for it; a sentence
    says so.

    Parameters
    ----------
    given : array of shape (n_trials,)
        Texts.
    """
    tiers = np.array([SYNONYMS.get(text.strip().lower(), "") for text in given.tolist()])
    there = ", ".join(map(str, np.unique(given)[:20])) or "none at all"
    for tier in ("train", "test"):
        if not (tiers == tier).any():
            raise UserError(
                f"recording {name}: tier has no trial of {tier} (it has {there}): name each trial "
                "train, validation or test"
            )
    if (tiers == "validation").any():
        return tiers, None
    # A training image that is also a test image is refused or dropped later, so it is none here.
    left = np.setdiff1d(shown[tiers == "train"], shown[tiers == "test"])
    rng = np.random.default_rng(settings.seed)
    validation = drawn_images(name, left, settings.validation, rng)
    tiers = tiers.astype("<U10")
    tiers[(tiers == "train") & np.isin(shown, validation)] = "validation"
    return tiers, (
        f"recording {name}: tier has no validation trials; those of {len(validation)} of "
        f"{len(left)} training images are (seed {settings.seed})"
    )


def drawn_images(
    name: str, images: NDArray[np.int64], fraction: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Some images for validation, at least one, but not all; the rest is for training."""
    if len(images) < 2:
        raise UserError(
            f"recording {name}: {len(images)} images are left for training and validation, and "
            "each needs one: choose recording.split.test = 0.2 or the like, or give each trial a "
            "tier"
        )
    number = min(len(images) - 1, max(1, round(fraction * len(images))))
    return rng.permutation(images)[:number]
