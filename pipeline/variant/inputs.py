"""Images and recordings that an experiment names: each is read once, and hashed once."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from cache import UserError
from stages.recordings import (
    FORMATS,
    Recording,
    RecordingSizes,
    chosen_neurons,
    default_columns,
    digest_recording,
    read_images,
    read_recording,
    reading_limit,
    twin_remark,
)
from stages.stimuli import Stimuli, StimulusDigest, digest, resolve_crop

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.experiment import Experiment
    from stages.recordings import RecordingSettings


@dataclass(frozen=True)
class Inputs:
    """The files of an experiment, shared by all its variants: no sweep touches them.

    Parameters
    ----------
    experiment : Experiment
        One of the variants.
    planted_in : dict
        Planted recordings, by the key of the cache whose tokens they are planted in.
    """

    experiment: Experiment
    planted_in: dict[str, Recording] = field(default_factory=dict, repr=False)
    _digests: dict[bytes, str] = field(default_factory=dict, repr=False)
    _contents: dict[int, tuple[Recording, str]] = field(default_factory=dict, repr=False)

    @cached_property
    def absent(self) -> dict[str, Path]:
        """Input files that are named but not there, by the setting that names them."""
        found = {"stimuli.path": self.experiment.stimuli.path}
        for recording in self.experiment.recording:
            found[f"recording.path of {recording.name}"] = recording.path
        return {name: p for name, p in found.items() if p is not None and not p.exists()}

    @property
    def absent_recordings(self) -> dict[str, Path]:
        """Those of them that are recordings."""
        return {name: p for name, p in self.absent.items() if name != "stimuli.path"}

    @property
    def planted(self) -> bool:
        """Whether neurons are planted in the tokens of the cache."""
        return any(FORMATS[r.format].planted(r) for r in self.experiment.recording)

    @cached_property
    def recorded(self) -> list[Recording]:
        """The recordings that are files, all neurons of them.

        Raises
        ------
        UserError
            A file that is missing or unusable.
        """
        with reading_limit(self.experiment.run.memory_limit):
            return [read_recording(settings) for settings in self._files]

    @cached_property
    def chosen(self) -> dict[str, Recording]:
        """The same by their names, with the chosen neurons.

        Raises
        ------
        UserError
            No such neurons.
        """
        pairs = zip(self._files, self.recorded, strict=True)
        return {settings.name: chosen_neurons(settings, read) for settings, read in pairs}

    def remarks(self, *, hashed: bool = True) -> list[str]:
        """What a reader of results must know of the recordings' trials.

        With `hashed`, the images are compared, too, where they are at hand.
        """
        files = [] if self.absent_recordings else self.recorded
        found = [each for read in [*files, *self.planted_in.values()] for each in read.remarks]
        digest = self.digest if hashed and files else None
        twins = [] if digest is None else [twin_remark(read, digest) for read in files]
        return [*found, *(remark for remark in twins if remark is not None)]

    @cached_property
    def sizes(self) -> list[RecordingSizes]:
        """What each recording holds: counted, or as the experiment file expects it."""
        counted = {
            name: RecordingSizes(
                recording=name,
                neurons=recording.n_neurons,
                trials=len(recording.image_ids),
                test_images=len(recording.test_image_ids),
                incomplete=recording.incomplete,
                negative=recording.negative,
            )
            for name, recording in ({} if self.absent_recordings else self.chosen).items()
        }
        return [
            counted[r.name] if r.name in counted else FORMATS[r.format].sizes(r)
            for r in self.experiment.recording
        ]

    @cached_property
    def stimuli(self) -> Stimuli | None:
        """The images to extract, or None where their file is not at hand.

        `hashed_stimuli` are those to compute from.

        Raises
        ------
        UserError
            The images lack an id that a recording shows.
        """
        with reading_limit(self.experiment.run.memory_limit):
            made, path = self._made_images(), self.images_path
            if made is not None or path is None or not path.exists():
                return made
            stimuli = self._read_images(path)
        import numpy as np

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

    def _read_images(self, path: Path) -> Stimuli:
        named, recordings = self.experiment.stimuli, self.experiment.recording
        if named.path is None:
            if named.key is not None or named.axes is not None:
                raise UserError(
                    "stimuli.key and stimuli.axes say how to read stimuli.path, which is missing: "
                    "name the file of the images there"
                )
            return FORMATS[recordings[0].format].own_images(recordings[0])
        consent = any(r.allow_pickle for r in recordings)
        return read_images(path, allow_pickle=consent, key=named.key, axes=named.axes)

    @property
    def required_stimuli(self) -> Stimuli:
        """The images to extract.

        Raises
        ------
        UserError
            They are not named, or their file is not there.
        """
        if self.stimuli is not None:
            return self.stimuli
        if self.images_path is not None:
            raise UserError(f"{self.images_path}: no such file or folder; correct stimuli.path")
        raise UserError(
            "stimuli.path is missing: name the images (a file of arrays, a folder of pictures, "
            "nat60k_text16.mat of the minimodel release, or a Sensorium folder or .zip)"
        )

    @property
    def images_path(self) -> Path | None:
        """Where the images are: their own path, or the recording that holds them too."""
        recordings = self.experiment.recording
        if self.experiment.stimuli.path is not None:
            return self.experiment.stimuli.path
        if len(recordings) == 1:
            return FORMATS[recordings[0].format].images_path(recordings[0])
        return None

    @cached_property
    def digest(self) -> StimulusDigest | None:
        """Content of the images, or None where they are not at hand."""
        return None if self.stimuli is None else digest(self.stimuli)

    @cached_property
    def hashed_stimuli(self) -> Stimuli | None:
        """The images to extract, which must be those of `digest` whenever they are read."""
        if self.stimuli is None or self.digest is None:
            return None
        return replace(self.stimuli, crc32=self.digest.crc32)

    @cached_property
    def shown(self) -> NDArray[np.int64]:
        """Ids of the images that recordings show, array of shape (n,), as far as they are known.

        Planted recordings show all that there are.
        """
        import numpy as np

        if self.planted:
            return self.required_stimuli.ids
        files = [] if self.absent_recordings else self.recorded
        return np.unique(np.concatenate([np.empty(0, int), *(r.all_image_ids for r in files)]))

    def digest_of(self, ids: NDArray[np.int64]) -> str:
        """Hash of the content of some images.

        Parameters
        ----------
        ids : array of shape (n,)
            Image ids, increasing.
        """
        stimuli = self.hashed_stimuli or self.required_stimuli
        if self.digest is not None and len(ids) == len(stimuli):
            return self.digest.sha256
        asked = ids.tobytes()
        if asked not in self._digests:
            self._digests[asked] = digest(stimuli.select(ids)).sha256
        return self._digests[asked]

    @cached_property
    def crop(self) -> tuple[int, int] | None:
        """Raw columns to use, or None where that cannot be told without the images.

        Raises
        ------
        UserError
            Recordings that look at different parts of the images, or columns that there are not.
        """
        asked = self.experiment.stimuli.crop or default_columns(self.experiment.recording)
        return asked if self.stimuli is None else resolve_crop(asked, self.stimuli.image_shape)

    @property
    def image_shape(self) -> tuple[int, int] | None:
        """Rows and columns of a raw image, as far as they can be told."""
        if self.absent or self.stimuli is None:
            return self.experiment.stimuli.expected.size
        return self.stimuli.image_shape

    def content_of(self, recording: Recording) -> str:
        """Hash of a recording's content."""
        # The recording is kept beside its hash, so that no other one takes its address.
        if id(recording) not in self._contents:
            self._contents[id(recording)] = recording, digest_recording(recording)
        return self._contents[id(recording)][1]

    @property
    def _files(self) -> list[RecordingSettings]:
        return [r for r in self.experiment.recording if not FORMATS[r.format].planted(r)]

    def _made_images(self) -> Stimuli | None:
        """Images that a format makes itself."""
        recordings = self.experiment.recording
        for settings in recordings:
            stimuli = FORMATS[settings.format].images(settings)
            if stimuli is None:
                continue
            if len(recordings) > 1 or self.experiment.stimuli.path is not None:
                raise UserError(
                    f"recording {settings.name} is {settings.format} and brings its own images: it "
                    "must be the only [recording], without stimuli.path"
                )
            return stimuli
        return None
