"""Monkey V1 of Cadena et al. 2019, as published and as the minimodel release uses it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cache import UserError
from stages.recordings.guards.limit import check_size, current_limit
from stages.recordings.guards.unpickle import unpickled_arrays
from stages.recordings.readers.npy_archive import integer_vector, numbers, open_archive
from stages.recordings.readers.stack import LoadedStack
from stages.recordings.recording import Recording, check_recording
from stages.recordings.recording_format import RecordingFormat, recording_path
from stages.stimuli.stimuli import Stimuli

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stages.recordings.settings import RecordingSettings

#: The part of the images, from the first, that is not for test; and of these, that is for training.
_PART = 0.8
#: Seed with which the release draws the images for training.
SEED = 1000
#: Pixels that are cut off on each side of a published image.
MARGIN = 30

_REPEATS = ("repeat", "image", "neuron")


class CadenaFormat(RecordingFormat):
    """Responses of neurons of monkey V1 to natural images and textures, shown up to four times.

    The path is that of the published pickle, `cadena_ploscb_data.pkl`, a dict with `images`
    (n_images, row, column), `responses` (n_repeats, n_images, n_neurons), NaN where one is missing,
    and `repetitions` (n_neurons,); or of the minimodel release's `monkeyv1_cadena_2019.npz`, made
    from it. Both give one recording, with the tiers of the release: the last fifth of the images
    are for test, a drawn fifth of the others for validation. The central 80 x 80 pixels are seen.

    The release repeats the responses of neurons with two repetitions, so that all have four. These
    copies count as missing here. Every repeat of a training image is a trial.

    Image ids are positions in the published order.
    """

    def read(self, settings: RecordingSettings) -> Recording:
        """See `RecordingFormat.read`."""
        path = recording_path(settings)
        held = _open(path, settings.allow_pickle)
        found = (_of_release if isinstance(held, _Npz) else _as_published)(held, path)
        n_repeats, _, n_neurons = found.responses.shape
        repetitions = _vector(held, "repetitions", path)
        if len(repetitions) != n_neurons:
            raise UserError(
                f"repetitions of {path} has {len(repetitions)} entries, but responses have "
                f"{n_neurons} neurons: check the file"
            )
        copies = np.arange(n_repeats)[:, None] >= repetitions
        responses = np.where(copies[:, None], np.float32(np.nan), found.responses)
        n_single = len(found.validation)
        single = responses[:, :n_single].reshape(-1, n_neurons)
        image = np.tile(np.arange(n_single), n_repeats)
        kept = found.used[image] & ~np.isnan(single).all(axis=1)
        return check_recording(
            Recording(
                name=settings.name,
                neurons=np.arange(n_neurons, dtype=np.int64),
                image_ids=image[kept],
                responses=single[kept],
                validation=found.validation[image[kept]],
                test_image_ids=np.arange(n_single, responses.shape[1]),
                test_responses=responses[:, n_single:].swapaxes(0, 1),
            )
        )

    def recognises(self, path: Path) -> bool:
        """Whether it is an `.npz` that tells real responses from others."""
        if path.suffix.lower() != ".npz" or not path.is_file():
            return False
        with suppress(UserError):
            return "test_real_responses" in _Npz(path)
        return False

    def images_path(self, settings: RecordingSettings) -> Path:
        """The recording's own path."""
        return recording_path(settings)

    def own_images(self, settings: RecordingSettings) -> Stimuli:
        """The images in the published order; those of the release have mean 0 and deviation 1."""
        path = recording_path(settings)
        stack = LoadedStack(_load_images, path, settings.allow_pickle)
        return stack.stimuli(str(path))


@dataclass(frozen=True, kw_only=True)
class _Release:
    """Responses (n_repeats, n_images, n_neurons), NaN where missing; images for test are last.

    Which of the other images are for validation, and which are used at all, has shape (n_single,).
    """

    responses: NDArray[np.float32]
    validation: NDArray[np.bool_]
    used: NDArray[np.bool_]


def _as_published(held: Mapping[str, NDArray[Any]], path: Path) -> _Release:
    responses = numbers(_array(held, "responses", path), f"responses of {path}", axes=_REPEATS)
    n_images = len(_array(held, "images", path))
    if responses.shape[1] != n_images:
        raise UserError(
            f"responses of {path} have shape {responses.shape}, but there are {n_images} images: "
            "(repeat, image, neuron) is needed"
        )
    n_single = int(n_images * _PART)
    # The release draws with numpy's old generator, whose numbers never change.
    order = np.random.RandomState(SEED).permutation(n_single)
    validation = np.ones(n_single, dtype=bool)
    validation[order[: round(n_single * _PART)]] = False
    return _Release(
        responses=responses.astype(np.float32),
        validation=validation,
        used=np.ones(n_single, dtype=bool),
    )


def _of_release(held: Mapping[str, NDArray[Any]], path: Path) -> _Release:
    test = _measured(held, "test_responses", "test_real_responses", _REPEATS, path)
    single = _measured(held, "responses", "real_responses", ("trial", "neuron"), path)
    n_repeats, _, n_neurons = test.shape
    if single.shape[1] != n_neurons or len(single) % max(n_repeats, 1):
        raise UserError(
            f"responses of {path} have shape {single.shape}, but test_responses {test.shape}: "
            f"(trial, neuron) with {n_repeats} trials per image is needed"
        )
    n_single = len(single) // n_repeats
    rows = [_vector(held, name, path) for name in ("train_idx", "val_idx")]
    if any(((row < 0) | (row >= len(single))).any() for row in rows):
        raise UserError(f"train_idx or val_idx of {path} name trials beyond {len(single)}")
    training, validation = (np.isin(np.arange(n_single), row % n_single) for row in rows)
    if (training & validation).any():
        raise UserError(
            f"{path}: {(training & validation).sum()} images are of train_idx and of val_idx: "
            "make the file again"
        )
    responses = single.reshape(n_repeats, n_single, n_neurons)
    return _Release(
        responses=np.concatenate([responses, test], axis=1),
        validation=validation,
        used=training | validation,
    )


def _measured(
    held: Mapping[str, NDArray[Any]], name: str, real: str, axes: tuple[str, ...], path: Path
) -> NDArray[np.float32]:
    """Responses, NaN where they are not real."""
    responses = numbers(_array(held, name, path), f"{name} of {path}", axes=axes)
    there = numbers(_array(held, real, path), f"{real} of {path}", axes=axes)
    if there.shape != responses.shape:
        raise UserError(
            f"{real} of {path} has shape {there.shape}, but {name} has {responses.shape}: make "
            "the file again"
        )
    return np.where(there != 0, responses, np.nan).astype(np.float32)


def _load_images(path: Path, allow_pickle: bool) -> NDArray[Any]:
    """All images as they are seen, array of shape (n_images, row, column)."""
    held = _open(path, allow_pickle)
    what, stack = f"images of {path}", _array(held, "images", path)
    if not isinstance(held, _Npz):
        stack = numbers(stack, what, axes=("image", "row", "column"))
        if min(stack.shape[1:]) <= 2 * MARGIN:
            raise UserError(
                f"{what} have shape {stack.shape}, but {MARGIN} pixels are cut off on each side: "
                "check the file"
            )
        return stack[:, MARGIN:-MARGIN, MARGIN:-MARGIN]
    axes = ("image", "channel", "row", "column")
    test = numbers(_array(held, "test_images", path), f"test_{what}", axes=axes)
    n_repeats = len(_array(held, "test_responses", path))
    single = numbers(stack, what, axes=axes)
    parts = np.split(single, n_repeats) if len(single) % n_repeats == 0 else []
    if not parts or not all(np.array_equal(parts[0], part) for part in parts[1:]):
        raise UserError(
            f"{what} are not {n_repeats} times the same, one after the other: make the file again"
        )
    if parts[0].shape[1:] != test.shape[1:] or test.shape[1] != 1:
        raise UserError(
            f"{what} have shape {single.shape} and test_images {test.shape}: grey images of one "
            "size are needed"
        )
    return np.concatenate([parts[0], test])[:, 0]


class _Npz(dict[str, Any]):
    """Arrays of an `.npz` by their names, read when asked for."""

    def __init__(self, path: Path) -> None:
        self._archive = open_archive(path)
        super().__init__((name.removesuffix(".npy"), None) for name in self._archive.members())

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._archive.array(f"{name}.npy")


def _open(path: Path, allow_pickle: bool) -> Mapping[str, NDArray[Any]]:
    """The arrays of either file."""
    with path.open("rb") as file:
        if file.read(2) == b"PK":
            return _Npz(path)
    if not allow_pickle:
        raise UserError(
            f"{path} is no .npz, and a pickle is read with consent only: set "
            "recording.allow_pickle = true and give --allow-pickle only if you trust where it "
            "comes from"
        )
    limit = current_limit()
    check_size(path.stat().st_size, str(path), limit)
    try:
        return unpickled_arrays(path.read_bytes(), str(path), limit)
    except UserError:
        raise
    except Exception as error:  # damaged bytes make the parser raise nearly anything
        raise UserError(
            f"{path} cannot be read as a pickle ({error}): fetch it again, or name another"
        ) from error


def _array(held: Mapping[str, NDArray[Any]], name: str, path: Path) -> NDArray[Any]:
    if name not in held:
        raise UserError(
            f"{path} has no array `{name}` (it holds {', '.join(sorted(held)) or 'nothing'}): name "
            "cadena_ploscb_data.pkl or monkeyv1_cadena_2019.npz"
        )
    return held[name]


def _vector(held: Mapping[str, NDArray[Any]], name: str, path: Path) -> NDArray[np.int64]:
    return integer_vector(_array(held, name, path), f"{name} of {path}")
