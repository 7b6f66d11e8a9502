"""Settings of the images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from stages.settings import STRICT, InputPath, Positive


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ExpectedImages:
    """Number of images in their file and size of one, for plans where it is not at hand.

    The size is that of rows and columns, in pixels.
    """

    images: Positive | None = None
    size: tuple[Positive, Positive] | None = None


@dataclass(frozen=True, kw_only=True, config=STRICT)
class StimuliSettings:
    """Which images are shown to the backbone, and how they are cut.

    Parameters
    ----------
    path : path, optional
        The images; not needed where the recording's own file holds them.
    key : str, optional
        Name of the images where the path is a container of several arrays.
    axes : str, optional
        Names of their axes in order, such as "row column image"; by default what the file says, or
        else image, row, column.
    crop : pair of int, optional
        [first, last) in raw columns. By default what suits the format: 0..132 of a minimodel
        recording (46..176 for FX20), all columns otherwise.
    input_size : pair of int
        Rows and columns the backbone sees, before `upsample`.
    upsample : int
        Multiplies `input_size`.
    images : str
        "recording" extracts what the recordings show, "all" every image of the file.
    expected : ExpectedImages
        Counts for `vitv1 run --dry-run` where the file is not at hand; changes no result.
    """

    path: Annotated[Path | None, InputPath()] = None
    key: Annotated[str, Field(min_length=1)] | None = None
    axes: Annotated[str, Field(min_length=1)] | None = None
    crop: tuple[Annotated[int, Field(ge=0)], Positive] | None = None
    input_size: tuple[Positive, Positive] = (64, 128)
    upsample: Positive = 1
    images: Literal["all", "recording"] = "recording"
    expected: ExpectedImages = Field(default_factory=ExpectedImages)

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns after upsampling."""
        return (self.input_size[0] * self.upsample, self.input_size[1] * self.upsample)
