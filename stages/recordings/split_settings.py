"""Settings of splits by image, for recordings whose files tell no tiers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from stages.settings import STRICT

#: A part of a whole, neither none of it nor all.
Fraction = Annotated[float, Field(gt=0, lt=1)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SplitSettings:
    """Which images are for test and which for validation; all others are for training.

    Parameters
    ----------
    test : str or float
        "repeated": every image that was shown at least `min_repeats` times. A fraction: so many of
        these images, drawn with the seed; the rest of them are split like all others.
    min_repeats : int
        Fewest trials of a test image.
    validation : float
        Fraction of the images that are not for test.
    seed : int
        Of both draws.
    """

    test: Literal["repeated"] | Fraction = "repeated"
    min_repeats: Annotated[int, Field(ge=2)] = 4
    validation: Fraction = 0.1
    seed: Annotated[int, Field(ge=0)] = 0
