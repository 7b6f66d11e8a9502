"""Settings of single recording formats: of what only that format's files leave open."""

from __future__ import annotations

from typing import Literal

from pydantic.dataclasses import dataclass

from stages.settings import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SensoriumSettings:
    """A recording in the Sensorium layout.

    Parameters
    ----------
    score_on : str
        The tier whose images are the test images. "validation" is for recordings whose test
        responses are withheld: its images are then no longer for validation, and a fraction
        `split.validation` of the training images takes their place.
    """

    score_on: Literal["test", "validation"] = "test"
