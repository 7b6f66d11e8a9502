"""Recordings of the minimodel release: a `.mat` of images for all mice, an `.npz` per recording."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cache import UserError
from stages.recordings.containers.images import stored_stimuli
from stages.recordings.containers.mat import open_mat
from stages.recordings.containers.stored import StoredArray
from stages.recordings.guards.limit import current_limit
from stages.recordings.readers.npy_archive import (
    NpyFolder,
    integer_vector,
    numbers,
    open_archive,
    padded_repeats,
)
from stages.recordings.recording import Recording, check_recording
from stages.recordings.recording_format import RecordingFormat, recording_path
from stages.stimuli.stimuli import Stimuli

if TYPE_CHECKING:
    from stages.recordings.settings import RecordingSettings

#: The key of the images in the `.mat` file.
IMAGE_KEY = "img"

#: Every tenth training trial, from the first, is for validation.
VALIDATION_INTERVAL = 10

#: Raw columns that the published CNN takes of the images.
CNN_COLUMNS = 130

#: Images, first and last, whose training trials showed flipped test images to mouse L1_A1.
FLIPPED_IN_L1_A1 = (30000, 30500)


class MinimodelFormat(RecordingFormat):
    """Recordings of the minimodel release; the mouse decides which columns are looked at.

    A recording's `.npz` file holds `sp` (n_neurons, n_trials); the image shown in each trial,
    `istim_sp` (n_trials,), and the repeated images, `istim_ss` (n_test,); `ss_all` (n_test,
    n_repeats, n_neurons) or an object array of n_test arrays (n_repeats_i, n_neurons); perhaps
    positions `xpos` and `ypos`. Validation is every tenth of the trials, from the first. Mouse
    L1_A1, recognised by the name or by that of the file, first loses the trials that showed it
    flipped test images.

    Images are in a MATLAB file, key `img` of shape (row, column, n_images); ids count from 0.
    """

    def read(self, settings: RecordingSettings) -> Recording:
        """See `RecordingFormat.read`."""
        path, allow_pickle = recording_path(settings), settings.allow_pickle
        npz = open_archive(path)
        shown = integer_vector(_read(npz, "istim_sp", allow_pickle), f"istim_sp of {path}")
        test_ids = integer_vector(_read(npz, "istim_ss", allow_pickle), f"istim_ss of {path}")
        sp = numbers(_read(npz, "sp", allow_pickle), f"sp of {path}", axes=("neuron", "trial"))
        n_neurons, n_trials = sp.shape
        if len(shown) != n_trials:
            raise UserError(
                f"istim_sp of {path} names {len(shown)} images, but sp has {n_trials} trials "
                f"(shape {sp.shape}): check the file"
            )
        responses = np.ascontiguousarray(sp.T, dtype=np.float32)
        del sp  # gigabytes in a full recording
        if _is_mouse("L1_A1", settings):
            first, last = FLIPPED_IN_L1_A1
            kept = (shown < first) | (shown > last)
            shown, responses = shown[kept], responses[kept]
        test = _read(npz, "ss_all", allow_pickle)
        positions: dict[str, Any] = {
            axis: numbers(_read(npz, key, allow_pickle), f"{key} of {path}", axes=("neuron",))
            for axis, key in {"x": "xpos", "y": "ypos"}.items()
            if npz.has(f"{key}.npy")
        }
        return check_recording(
            Recording(
                name=settings.name,
                neurons=np.arange(n_neurons, dtype=np.int64),
                image_ids=shown,
                responses=responses,
                validation=self.validation(np.ones(len(shown), dtype=bool)),
                test_image_ids=test_ids,
                test_responses=_repeats(test, npz, len(test_ids), n_neurons),
                **{axis: values.astype(np.float64) for axis, values in positions.items()},
            )
        )

    def validation(self, kept: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Every tenth of the trials that are left, as if the others were not in the file."""
        return np.asarray(np.arange(len(kept)) % VALIDATION_INTERVAL == 0)

    def recognises(self, path: Path) -> bool:
        """Whether it is an `.npz` with single trials and repeats."""
        if path.suffix.lower() != ".npz":
            return False
        members = open_archive(path).members()
        return {"sp.npy", "istim_sp.npy", "ss_all.npy"} <= members

    def reads_images(self, path: Path) -> bool:
        """Whether it is a MATLAB file."""
        return path.suffix.lower() == ".mat"

    def read_images(self, path: Path, *, allow_pickle: bool) -> Stimuli:
        """See `RecordingFormat.read_images`; a stack of MATLAB v5 is held once, as stored."""
        return stored_stimuli(_stack(path, current_limit()), axes="row column image")

    def columns(self, settings: RecordingSettings) -> tuple[int, int]:
        """Those that the neurons look at, which the mouse decides."""
        return (46, 176) if _is_mouse("FX20", settings) else (0, 132)

    def cnn_columns(self, settings: RecordingSettings) -> tuple[int, int]:
        """The first `CNN_COLUMNS` of `columns`."""
        first, _ = self.columns(settings)
        return first, first + CNN_COLUMNS


def _is_mouse(mouse: str, settings: RecordingSettings) -> bool:
    """Whether a recording is of this mouse: its name holds the mouse's, or its file's begins so.

    Case matters, and FX2 is not FX20.
    """
    whole, path = rf"{re.escape(mouse)}(?![A-Za-z0-9])", settings.path
    in_name = re.search(rf"(?<![A-Za-z0-9]){whole}", settings.name) is not None
    return in_name or (path is not None and re.match(whole, path.name) is not None)


def _stack(path: Path, limit: int) -> StoredArray:
    if not path.is_file():
        raise UserError(f"{path} does not exist: check stimuli.path in the experiment file")
    there = open_mat(path, limit)
    if IMAGE_KEY not in there:
        raise UserError(
            f"{path} has no variable `{IMAGE_KEY}` (it holds {', '.join(there) or 'nothing'}): "
            "name the file of images, or its variable in stimuli.key"
        )
    images = there[IMAGE_KEY]
    images.check_size()
    if len(images.shape) != 3:
        raise UserError(
            f"{images.where} must have 3 axes (row, column, image), found shape {images.shape}: "
            "check the file"
        )
    if images.dtype.kind not in "biuf":
        raise UserError(f"{images.where} must hold real numbers, found none: check the file")
    return images


def _read(npz: NpyFolder, key: str, allow_pickle: bool) -> NDArray[Any]:
    if not npz.has(f"{key}.npy"):
        there = ", ".join(sorted(m.removesuffix(".npy") for m in npz.members())) or "nothing"
        raise UserError(
            f"{npz.path} has no array `{key}` (it holds {there}): name a recording of the "
            "minimodel release"
        )
    return npz.array(f"{key}.npy", allow_pickle=allow_pickle)


def _repeats(
    stored: NDArray[Any], npz: NpyFolder, n_test: int, n_neurons: int
) -> NDArray[np.float32]:
    what = f"ss_all of {npz.path}"
    if stored.dtype.kind == "O" and stored.ndim == 1:
        axes = ("repeat", "neuron")
        parts = [
            numbers(np.asarray(part), f"entry {i} of {what}", axes=axes)
            for i, part in enumerate(stored)
        ]
        widths = {part.shape[1] for part in parts} - {n_neurons}
        if len(parts) != n_test or widths:
            raise UserError(
                f"{what} holds {len(parts)} images and "
                f"{widths.pop() if widths else n_neurons} neurons, but istim_ss has {n_test} "
                f"images and sp {n_neurons} neurons: check the file"
            )
        return padded_repeats(parts, n_neurons, what, npz.limit)
    test = numbers(stored, what, axes=("image", "repeat", "neuron"))
    if (test.shape[0], test.shape[2]) != (n_test, n_neurons):
        raise UserError(
            f"{what} has shape {test.shape}, but istim_ss has {n_test} images and sp "
            f"{n_neurons} neurons: check the file"
        )
    return test.astype(np.float32)
