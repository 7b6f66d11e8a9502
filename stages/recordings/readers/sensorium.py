"""Recordings in the Sensorium layout: image and response files per trial, in a folder or zip."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cache import UserError
from stages.recordings.array_settings import SplitSettings
from stages.recordings.guards.limit import NUMBER, check_size
from stages.recordings.guards.video import video_in
from stages.recordings.readers.npy_archive import (
    NpyFolder,
    integer_vector,
    numbers,
    open_archive,
    open_npy_folder,
)
from stages.recordings.recording import Recording, check_recording
from stages.recordings.recording_format import RecordingFormat, recording_path
from stages.recordings.split import drawn_images
from stages.recordings.tiers import TIERS, fields_of_tiers
from stages.stimuli.stimuli import Stimuli

if TYPE_CHECKING:
    from stages.recordings.settings import RecordingSettings

_TIERS_FILE = "meta/trials/tiers.npy"
_IDS_FILE = "meta/trials/frame_image_id.npy"
_UNITS_FILE = "meta/neurons/unit_ids.npy"
_POSITIONS_FILE = "meta/neurons/cell_motor_coordinates.npy"


class SensoriumFormat(RecordingFormat):
    """Recordings in the Sensorium layout, which hold their images, too.

    The path is that of the folder with `data/` and `meta/`, of a folder that holds only it, or of a
    `.zip` of either. Trials of the tiers train, validation and test are read. Those of tier test
    that share an image id are its repeats. Images are in order of their `frame_image_id`; an image
    is that of the first trial that showed it, and others must have the same pixels.
    """

    def read(self, settings: RecordingSettings) -> Recording:
        """See `RecordingFormat.read`."""
        path, allow_pickle = recording_path(settings), settings.allow_pickle
        folder = _open(path)
        trials, tiers, shown = _read_trials(folder, "data/responses", allow_pickle)
        responses = _read_responses(folder, trials)
        scored = settings.sensorium.score_on
        remarks: tuple[str, ...] = ()
        if scored == "validation":
            responses, shown, tiers = _on_validation(
                settings.name, responses, shown, tiers, settings.split or SplitSettings()
            )
            remarks = (_remark(settings.name, shown, tiers),)
        elif len(withheld := responses[tiers == "test"]) and not np.nan_to_num(withheld).any():
            raise UserError(
                f"{path}: all responses in its {len(withheld)} test trials are 0 or missing: they "
                "are withheld, as in scans 26872-17-20 and 27204-5-13 of Sensorium 2022; set "
                'recording.sensorium.score_on = "validation" to score on the validation images, or '
                "use another scan"
            )
        n_neurons = responses.shape[1]
        optional: dict[str, Any] = {}
        if folder.has(_UNITS_FILE):
            stored = folder.array(_UNITS_FILE, allow_pickle=allow_pickle)
            optional["unit_ids"] = integer_vector(stored, f"{_UNITS_FILE} of {path}")
        if folder.has(_POSITIONS_FILE):
            what = f"{_POSITIONS_FILE} of {path}"
            stored = folder.array(_POSITIONS_FILE, allow_pickle=allow_pickle)
            positions = numbers(stored, what, axes=("neuron", "coordinate"))
            if positions.shape[0] != n_neurons or positions.shape[1] < 2:
                raise UserError(
                    f"{what} has shape {positions.shape}, expected ({n_neurons}, 3): check the file"
                )
            optional |= zip("xy", positions.T.astype(np.float64), strict=False)
        return check_recording(
            Recording(
                name=settings.name,
                neurons=np.arange(n_neurons, dtype=np.int64),
                remarks=remarks,
                **fields_of_tiers(shown, responses, tiers, str(path)),
                **optional,
            ),
            repeated=scored == "test",
        )

    def recognises(self, path: Path) -> bool:
        """Whether it is a folder, or a `.zip` of one, that tells the tiers of trials."""
        if not (path.is_dir() or path.suffix.lower() == ".zip"):
            return False
        with suppress(UserError):
            return open_npy_folder(path, _TIERS_FILE) is not None
        return False

    def images_path(self, settings: RecordingSettings) -> Path:
        """The recording's own path."""
        return recording_path(settings)

    def reads_images(self, path: Path) -> bool:
        """Whether it is a folder or a `.zip`."""
        return path.is_dir() or path.suffix.lower() == ".zip"

    def read_images(self, path: Path, *, allow_pickle: bool) -> Stimuli:
        """See `RecordingFormat.read_images`."""
        folder = _open(path)
        trials, _, shown = _read_trials(folder, "data/images", allow_pickle)
        ids, rows = np.unique(shown, return_index=True)
        first_trial = dict(zip(ids.tolist(), trials[rows].tolist(), strict=True))
        for number, image_id in zip(trials.tolist(), shown.tolist(), strict=True):
            first = first_trial[image_id]
            names = _image_file(first), _image_file(number)
            # Headers may differ between equal images, so the pixels decide.
            if (
                number != first
                and folder.checksum(names[0]) != folder.checksum(names[1])
                and not np.array_equal(_read_image(folder, first), _read_image(folder, number))
            ):
                raise UserError(
                    f"{names[0]} and {names[1]} of {path} show different pixels, but both trials "
                    f"have image id {image_id}: correct {_IDS_FILE}"
                )
        image = _read_image(folder, int(trials[0]))
        return Stimuli(
            ids=ids,
            image_shape=(image.shape[0], image.shape[1]),
            dtype=image.dtype,
            reader=_TrialImages(
                folder=folder, first_trial=first_trial, shape=image.shape, dtype=image.dtype
            ),
            source=str(path),
        )


@dataclass(frozen=True, kw_only=True)
class _TrialImages:
    folder: NpyFolder
    first_trial: dict[int, int]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __call__(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        size = len(ids) * math.prod(self.shape) * self.dtype.itemsize
        check_size(size, f"{len(ids)} images of {self.folder.path}", self.folder.limit)
        images = np.empty((len(ids), *self.shape), dtype=self.dtype)
        for row, image_id in enumerate(ids.tolist()):
            trial = self.first_trial[image_id]
            image = _read_image(self.folder, trial)
            if image.shape != self.shape or image.dtype != self.dtype:
                raise UserError(
                    f"{_image_file(trial)} of {self.folder.path} is {image.shape} {image.dtype}, "
                    f"the first image {self.shape} {self.dtype}: all must be alike"
                )
            images[row] = image
        return images


def _open(path: Path) -> NpyFolder:
    """The folder or archive, refused where it holds videos."""
    video = video_in(open_archive(path, may_be_folder=True).tree())
    if video is not None:
        raise UserError(
            f"{path} is a recording of videos ({video}), such as those of Sensorium 2023: only "
            "still images can be used; name a recording of images"
        )
    return open_npy_folder(path, _TIERS_FILE)


def _on_validation(
    name: str,
    responses: NDArray[np.float32],
    shown: NDArray[np.int64],
    tiers: NDArray[np.str_],
    split: SplitSettings,
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.str_]]:
    """The trials whose tier is not test, with validation as test and a part of train for it."""
    kept = tiers != "test"
    responses, shown, tiers = responses[kept], shown[kept], tiers[kept]
    training = tiers == "train"
    renamed = np.full_like(tiers, "test")
    renamed[training] = "train"
    rng = np.random.default_rng(split.seed)
    validation = drawn_images(name, np.unique(shown[training]), split.validation, rng)
    renamed[training & np.isin(shown, validation)] = "validation"
    return responses, shown, renamed


def _remark(name: str, shown: NDArray[np.int64], tiers: NDArray[np.str_]) -> str:
    """A sentence on a recording that is scored on its validation images."""
    _, repeats = np.unique(shown[tiers == "test"], return_counts=True)
    remark = (
        f"recording {name}: scored on the {len(repeats)} images of its validation tier, and "
        f"validated on {len(np.unique(shown[tiers == 'validation']))} of its training images"
    )
    if repeats.max(initial=0) < 2:
        remark += (
            "; each was shown once, so that noise is unknown and FEV and FEVE are NaN: read "
            "test_correlation, which is to single trials"
        )
    return remark


def _read_trials(
    folder: NpyFolder, files: str, allow_pickle: bool
) -> tuple[NDArray[np.int64], NDArray[np.str_], NDArray[np.int64]]:
    """Numbers, tiers and image ids of the trials that are read; each has its file in `files`."""
    stored = folder.array(_TIERS_FILE, allow_pickle=allow_pickle)
    if stored.dtype.kind not in "SUO":
        raise UserError(f"{_TIERS_FILE} of {folder.path} must hold texts, found {stored.dtype}")
    tiers = stored.astype(np.str_)
    ids_where = f"{_IDS_FILE} of {folder.path}"
    ids = integer_vector(folder.array(_IDS_FILE, allow_pickle=allow_pickle), ids_where)
    if tiers.shape != ids.shape:
        raise UserError(
            f"{_TIERS_FILE} of {folder.path} has shape {tiers.shape}, but {_IDS_FILE} has "
            f"{ids.shape}: both need one entry per trial"
        )
    used = np.flatnonzero(np.isin(tiers, TIERS))
    if len(used) == 0:
        raise UserError(
            f"{_TIERS_FILE} of {folder.path} has no trial of tier {', '.join(TIERS)} "
            f"(it has {', '.join(np.unique(tiers)[:20]) or 'none at all'}): check the recording"
        )
    there = folder.members(files)
    missing = [f"{trial}.npy" for trial in used if f"{trial}.npy" not in there]
    if missing:
        raise UserError(
            f"{folder.path}: of {len(used)} trials in {_TIERS_FILE}, {len(missing)} lack their "
            f"file in {files}, the first is {missing[0]}: fetch the recording again"
        )
    stems = (file.removesuffix(".npy") for file in there if file.endswith(".npy"))
    surplus = sum(stem.isdecimal() and int(stem) >= len(tiers) for stem in stems)
    if surplus:
        raise UserError(
            f"{folder.path} lists {len(tiers)} trials in {_TIERS_FILE}, but {files} holds "
            f"{surplus} files beyond {len(tiers) - 1}.npy: the two do not belong together"
        )
    return used, tiers[used], ids[used]


def _image_file(trial: int) -> str:
    return f"data/images/{trial}.npy"


def _read_image(folder: NpyFolder, trial: int) -> NDArray[Any]:
    """One image, array of shape (row, column)."""
    name = _image_file(trial)
    what = f"{name} of {folder.path}"
    stored = numbers(folder.array(name), what, axes=("channel", "row", "column"))
    if stored.shape[0] != 1:
        raise UserError(
            f"{what} has {stored.shape[0]} channels (shape {stored.shape}): only grey images, "
            "(1, row, column), can be used"
        )
    return np.asarray(stored[0])


def _read_responses(folder: NpyFolder, trials: NDArray[np.int64]) -> NDArray[np.float32]:
    """Responses in the given trials, array of shape (n_trials, n_neurons)."""
    responses: NDArray[np.float32] | None = None
    for row, trial in enumerate(trials.tolist()):
        name = f"data/responses/{trial}.npy"
        what = f"{name} of {folder.path}"
        response = numbers(folder.array(name), what, axes=("neuron",))
        if responses is None:
            size = len(trials) * len(response) * NUMBER
            check_size(size, f"responses of {folder.path}", folder.limit)
            responses = np.empty((len(trials), len(response)), dtype=np.float32)
        if len(response) != responses.shape[1]:
            raise UserError(
                f"{what} has {len(response)} neurons, trial {trials[0]} has "
                f"{responses.shape[1]}: check the recording"
            )
        responses[row] = response
    assert responses is not None  # there is at least one trial
    return responses
