"""Registry of recording formats, and reading through it.

To add a format: write a subclass of `RecordingFormat`, and enter an instance into `FORMATS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cache import UserError
from stages.recordings.overlap import separate_tiers
from stages.recordings.readers.arrays import ArraysFormat, container_images
from stages.recordings.readers.cadena import CadenaFormat
from stages.recordings.readers.minimodel import MinimodelFormat
from stages.recordings.readers.nwb import NwbFormat
from stages.recordings.readers.sensorium import SensoriumFormat
from stages.recordings.recording import Recording
from stages.recordings.recording_format import RecordingFormat
from stages.recordings.selection import select
from stages.recordings.synthetic.format import SyntheticFormat
from stages.stimuli.stimuli import Stimuli

if TYPE_CHECKING:
    from cache import FeatureCache
    from stages.recordings.settings import RecordingSettings
    from stages.variant import Variant

#: Formats by the name that `recording.format` gives them.
FORMATS: dict[str, RecordingFormat] = {
    # Before "arrays", which would take its files, too.
    "cadena2019": CadenaFormat(),
    "arrays": ArraysFormat(),
    "minimodel": MinimodelFormat(),
    "nwb": NwbFormat(),
    "sensorium": SensoriumFormat(),
    "synthetic": SyntheticFormat(),
}


def read_recording(settings: RecordingSettings) -> Recording:
    """All neurons of a recording that is a file.

    Raises
    ------
    UserError
        The file is not named, not there, or cannot be used; its tiers overlap.
    """
    format = FORMATS[settings.format]
    return separate_tiers(format.read(settings), settings, format)


def plant_recording(
    settings: RecordingSettings, *, cache: FeatureCache, variant: Variant, keep: bool
) -> Recording:
    """All neurons of a recording that is planted; see `RecordingFormat.plant`.

    Raises
    ------
    UserError
        Settings that do not suit the backbone; tiers that overlap.
    """
    format = FORMATS[settings.format]
    planted = format.plant(settings, cache=cache, variant=variant, keep=keep)
    return separate_tiers(planted, settings, format)


def read_images(
    path: Path, *, allow_pickle: bool, key: str | None = None, axes: str | None = None
) -> Stimuli:
    """Images of a file or folder, opened by the first format that takes it.

    With a key or axes, see `stages.stimuli.StimuliSettings`, it is a container of arrays.

    Raises
    ------
    UserError
        A file that cannot be used.
    """
    if key is not None or axes is not None:
        return container_images(path, key=key, axes=axes)
    takers = (known for known in FORMATS.values() if known.reads_images(path))
    # The default says what is wrong with images that no format takes.
    return next(takers, FORMATS["sensorium"]).read_images(path, allow_pickle=allow_pickle)


def chosen_neurons(settings: RecordingSettings, recording: Recording) -> Recording:
    """The recording with the neurons that its settings choose.

    Raises
    ------
    UserError
        Neurons that the recording does not have.
    """
    if settings.neurons == "all":
        return recording
    return select(recording, settings.neurons)


def default_columns(recordings: Sequence[RecordingSettings]) -> tuple[int, int] | None:
    """Raw columns [first, last) that the backbone sees by default; None means all.

    Raises
    ------
    UserError
        Recordings that look at different columns.
    """
    asked = {FORMATS[settings.format].columns(settings) for settings in recordings} - {None}
    if len(asked) > 1:
        raise UserError(
            f"the recordings look at different columns of the images ({sorted(filter(None, asked))}"
            "): give each crop an experiment of its own, or set stimuli.crop"
        )
    return next(iter(asked), None)
