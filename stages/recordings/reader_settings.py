"""Settings of single recording formats: of what only that format's files leave open."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator
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


def _increasing(window: tuple[float, float]) -> tuple[float, float]:
    if not window[0] < window[1]:
        raise ValueError("the window must end after it begins")
    return window


@dataclass(frozen=True, kw_only=True, config=STRICT)
class NwbSettings:
    """Names of what a recording in an NWB file consists of.

    A name is that of the object, or the end of its path in the file, such as "ophys/DfOverF/dff".
    It may be left out where there is only one such object.

    Parameters
    ----------
    responses : str, optional
        A RoiResponseSeries, whose mean over the frames in the window is the response; or the table
        of units ("units"), whose spikes in the window are counted.
    stimulus : str, optional
        A table of intervals (TimeIntervals) with a row per presentation, or an IndexSeries.
    image : str
        Column of the table that tells the image: its index, counted from 0, or its name. A negative
        or missing index is a blank screen.
    tier : str, optional
        Column of the table with "train", "validation" or "test"; without it `split` tells.
    images : str, optional
        A stimulus template: a container of images (Images) or an ImageSeries.
    image_axes : str
        Order of the axes of an image in the file. The standard says columns first, most write rows.
    window : pair of float
        [first, last) in seconds after the onset.
    """

    responses: str | None = None
    stimulus: str | None = None
    image: str = "image_index"
    tier: str | None = None
    images: str | None = None
    image_axes: Literal["row column", "column row"] = "row column"
    window: Annotated[tuple[float, float], AfterValidator(_increasing)] = (0.05, 0.55)
