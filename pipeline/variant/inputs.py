"""The images and recordings that an experiment names, opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from cache import FeatureCache, UserError
from pipeline.experiment import Experiment
from stages.recordings import minimodel, sensorium
from stages.recordings.formats import FORMATS
from stages.recordings.recording import Recording
from stages.recordings.settings import RecordingSettings
from stages.recordings.synthetic import synthetic_stimuli
from stages.stimuli.preprocessing import resolve_crop
from stages.stimuli.stimuli import Stimuli, StimulusDigest, digest

_RECORDINGS: Mapping[str, Callable[..., Recording]] = {
    "minimodel": minimodel.read_recording,
    "sensorium": sensorium.read_recording,
}


@dataclass(frozen=True)
class Sources:
    """Images and recordings of one experiment; each is read once, when first asked for.

    Parameters
    ----------
    experiment : Experiment
        Which names them.
    progress : callable, optional
        Called with numbers of images that were hashed.
    files : Sources, optional
        Those of another variant of the same file: the variants share images and recordings.
    """

    experiment: Experiment
    progress: Callable[[int], None] | None = None
    files: Sources | None = None

    @property
    def absent(self) -> dict[str, Path]:
        """Input files that are named but not there, by the setting that names them."""
        found = {"stimuli.path": self.experiment.stimuli.path}
        for recording in self.experiment.recording:
            found[f"recording.path of {recording.name}"] = recording.path
        return {name: p for name, p in found.items() if p is not None and not p.exists()}

    @cached_property
    def recorded(self) -> list[Recording]:
        """The recordings that are files, all neurons of them."""
        if self.files is not None:
            return self.files.recorded
        return [
            _RECORDINGS[r.format](_path_of(r), name=r.name, allow_pickle=r.allow_pickle)
            for r in self.experiment.recording
            if r.format != "synthetic"
        ]

    def recordings(self, cache: FeatureCache | None) -> list[Recording]:
        """All recordings, with the chosen neurons.

        A synthetic one is planted in the tokens of `cache`; the others need none.

        Raises
        ------
        UserError
            No recording is named, a file is missing or unusable, or no such neurons.
        """
        if not self.experiment.recording:
            raise UserError("the experiment names no [recording]: add one to fit readouts to")
        recorded = iter(self.recorded)
        found = [
            self._plant(settings, cache) if settings.format == "synthetic" else next(recorded)
            for settings in self.experiment.recording
        ]
        return [
            _chosen(settings, recording)
            for settings, recording in zip(self.experiment.recording, found, strict=True)
        ]

    def check_neurons(self) -> None:
        """Refuse a choice of neurons that a recorded file does not have."""
        files = [r for r in self.experiment.recording if r.format != "synthetic"]
        for settings, recording in zip(files, self.recorded, strict=True):
            _chosen(settings, recording)

    @cached_property
    def stimuli(self) -> Stimuli | None:
        """The images to extract, or None where their file is not at hand.

        Raises
        ------
        UserError
            The images lack an id that a recording shows.
        """
        if self.files is not None:
            return self.files.stimuli
        synthetic = [r for r in self.experiment.recording if r.format == "synthetic"]
        if synthetic:
            if len(self.experiment.recording) > 1 or self.experiment.stimuli.path is not None:
                raise UserError(
                    f"recording {synthetic[0].name} is synthetic and brings its own images: it "
                    "must be the only [recording], without stimuli.path"
                )
            return synthetic_stimuli(synthetic[0].synthetic)
        path = self._images_path()
        if path is None or not path.exists():
            return None
        stimuli = self._read_images(path)
        for recording in self.recorded:
            missing = np.setdiff1d(recording.all_image_ids, stimuli.ids)
            if len(missing):
                raise UserError(
                    f"recording {recording.name} shows {len(missing)} images that {path} does not "
                    f"hold, the first has id {missing[0]} (ids there: {stimuli.ids[0]}.."
                    f"{stimuli.ids[-1]}): check that recording and images belong together"
                )
        if self.experiment.stimuli.images == "all" or not self.recorded:
            return stimuli
        return stimuli.select(np.concatenate([r.all_image_ids for r in self.recorded]))

    def required_stimuli(self) -> Stimuli:
        """The images to extract.

        Raises
        ------
        UserError
            They are not named, or their file is not there.
        """
        stimuli = self.stimuli
        if stimuli is not None:
            return stimuli
        path = self._images_path()
        if path is not None:
            raise UserError(f"{path}: no such file or folder; correct stimuli.path")
        raise UserError(
            "stimuli.path is missing: name the images (nat60k_text16.mat of the minimodel release, "
            "or a Sensorium folder or .zip)"
        )

    @cached_property
    def digest(self) -> StimulusDigest | None:
        """Content of the images, or None where they are not at hand."""
        if self.files is not None:
            return self.files.digest
        return None if self.stimuli is None else digest(self.stimuli, progress=self.progress)

    @property
    def crop(self) -> tuple[int, int] | None:
        """Raw columns to use, or None where that cannot be told without the images.

        Raises
        ------
        UserError
            Recordings that look at different parts of the images.
        """
        asked = self.experiment.stimuli.crop
        if asked is None:
            defaults = {
                minimodel.default_crop(r.name, r.path)
                for r in self.experiment.recording
                if r.format == "minimodel"
            }
            if len(defaults) > 1:
                raise UserError(
                    f"the recordings look at different columns of the images ({sorted(defaults)}): "
                    "give each crop an experiment of its own, or set stimuli.crop"
                )
            asked = next(iter(defaults), None)
        return asked if self.stimuli is None else resolve_crop(asked, self.stimuli.image_shape)

    def _plant(self, settings: RecordingSettings, cache: FeatureCache | None) -> Recording:
        crop = self.crop
        assert cache is not None and self.stimuli is not None and crop is not None
        return FORMATS[settings.format].plant(
            settings,
            cache=cache,
            stimuli=self.stimuli,
            crop=crop,
            backbone=self.experiment.backbone,
            input_size=self.experiment.stimuli.size,
        )

    def _images_path(self) -> Path | None:
        """Where the images are: their own path, or the recording that holds them too."""
        recordings = self.experiment.recording
        if self.experiment.stimuli.path is not None:
            return self.experiment.stimuli.path
        if len(recordings) == 1 and recordings[0].format == "sensorium":
            return _path_of(recordings[0])
        return None

    def _read_images(self, path: Path) -> Stimuli:
        if path.suffix == ".mat":
            return minimodel.read_stimuli(path)
        consent = any(r.allow_pickle for r in self.experiment.recording)
        return sensorium.read_stimuli(path, allow_pickle=consent)


def _path_of(settings: RecordingSettings) -> Path:
    if settings.path is None:
        raise UserError(
            f"recording {settings.name} has no path: name its file or folder in recording.path"
        )
    if not settings.path.exists():
        raise UserError(
            f"{settings.path}: no such file or folder; correct recording.path of {settings.name}"
        )
    return settings.path


def _chosen(settings: RecordingSettings, recording: Recording) -> Recording:
    if settings.neurons == "all":
        return recording
    return recording.select_neurons(*settings.neurons)
