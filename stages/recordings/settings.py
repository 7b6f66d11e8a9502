"""Settings of recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from stages.recordings.array_settings import ArrayNames, SplitSettings
from stages.recordings.formats import FORMATS
from stages.recordings.reader_settings import NwbSettings, SensoriumSettings
from stages.recordings.selection import Value, number_chosen
from stages.recordings.synthetic_settings import SyntheticSettings
from stages.settings import STRICT, Consent, InputPath, Positive


def _known_format(name: str) -> str:
    """The name itself, refused where no format is registered under it."""
    if name not in FORMATS:
        *others, last = map(repr, FORMATS)
        expected = f"{', '.join(others)} or {last}"
        raise PydanticCustomError("format", "Input should be {expected}", {"expected": expected})
    return name


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ExpectedTrials:
    """Numbers that a recording's file is said to hold, for plans where it is not at hand.

    Trials are those of training and validation together; test images are those of the test trials.
    """

    neurons: Positive | None = None
    trials: Positive | None = None
    test_images: Positive | None = None


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RecordingSettings:
    """One recording.

    Parameters
    ----------
    format : str
        A name in `FORMATS`, such as "minimodel", "sensorium" or "synthetic".
    path : path, optional
        The recording's file or folder; a synthetic one has none.
    name : str
        What results call it; for minimodel recordings the mouse ("FX10"), which decides its crop.
    neurons : str, list or mapping
        "all", [first, last), {"first": 0, "last": 500}, a list of positions that are not two, or
        values of their columns; see `stages.recordings.selection.select`.
    keys : ArrayNames
        What the file calls its arrays, for format "arrays".
    split : SplitSettings, optional
        How images are split, where the file tells no tiers.
    overlap : str
        What becomes of training and validation trials that show test images: "error" refuses the
        recording, "drop" leaves those trials out.
    allow_pickle : bool
        Consent to unpickle object arrays in this recording's files: only for files you trust. An
        experiment file alone cannot give it; its command needs --allow-pickle, too.
    sensorium : SensoriumSettings
        What to score on, for format "sensorium".
    nwb : NwbSettings
        Names of what to read, for format "nwb".
    synthetic : SyntheticSettings
        What to simulate, for format "synthetic".
    expected : ExpectedTrials
        Counts for `vitv1 run --dry-run` where the file is not at hand; changes no result.
    """

    format: Annotated[str, AfterValidator(_known_format)]
    name: Annotated[str, Field(min_length=1)]
    path: Annotated[Path | None, InputPath()] = None
    neurons: Literal["all"] | tuple[int, ...] | dict[str, Value | tuple[Value, ...]] = "all"
    keys: ArrayNames = Field(default_factory=ArrayNames)
    split: SplitSettings | None = None
    overlap: Literal["error", "drop"] = "error"
    allow_pickle: Annotated[bool, Consent("--allow-pickle")] = False
    sensorium: SensoriumSettings = Field(default_factory=SensoriumSettings)
    nwb: NwbSettings = Field(default_factory=NwbSettings)
    synthetic: SyntheticSettings = Field(default_factory=SyntheticSettings)
    expected: ExpectedTrials = Field(default_factory=ExpectedTrials)

    def chosen(self, held: int | None) -> int | None:
        """Number of chosen neurons of a recording that holds so many."""
        return held if self.neurons == "all" else number_chosen(self.neurons)
