"""Settings of recordings that are arrays: their names, and the split by images."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt
from pydantic.dataclasses import dataclass

from stages.settings import STRICT

#: A part of a whole, neither none nor all of it.
Fraction = Annotated[float, Field(gt=0, lt=1)]

ArrayName = Annotated[str, Field(min_length=1)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ArrayNames:
    """What a recording's file calls its arrays; a slash leads into a group of it.

    Parameters
    ----------
    images : str
        Of shape (n_images, row, column) or (n_images, row, column, channel).
    image_files : str
        Names of pictures in place of images, shape (n_images,).
    responses : str
        Of shape (n_trials, n_neurons), or (n_images, n_repeats, n_neurons).
    image : str
        Image that each trial showed: its position in `images`, or its id. Shape (n_trials,).
    image_id : str
        Ids of the images, numbers or texts. Shape (n_images,).
    tier : str
        "train", "validation" or "test" of each trial, or of each image.
    unit_id, x, y : str
        The laboratory's own numbers of the neurons, and their positions. Shape (n_neurons,).
    """

    images: ArrayName = "images"
    image_files: ArrayName = "image_files"
    responses: ArrayName = "responses"
    image: ArrayName = "image"
    image_id: ArrayName = "image_id"
    tier: ArrayName = "tier"
    unit_id: ArrayName = "unit_id"
    x: ArrayName = "x"
    y: ArrayName = "y"

    def all(self) -> frozenset[str]:
        """Every name."""
        return frozenset(getattr(self, field.name) for field in fields(self))


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SplitSettings:
    """Which images are for testing and for validation, where the file has no tiers.

    All trials of an image are in one tier.

    Parameters
    ----------
    test : str or float
        "repeated": the images that were shown at least `min_repeats` times; where these are more
        than four fifths of all, a fifth of them. Or the fraction of these that is for testing.
    min_repeats : int
        How often a test image was shown at least.
    validation : float
        Fraction of the other images.
    seed : int
        Decides which images are drawn.
    """

    test: Literal["repeated"] | Fraction = "repeated"
    min_repeats: Annotated[int, Field(ge=2)] = 4
    validation: Fraction = 0.1
    seed: NonNegativeInt = 0
