"""Recordings of one's own: named arrays in one container, of any of the usual kinds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cache import UserError
from stages.recordings.array_settings import ArrayNames
from stages.recordings.arrays.trials import texts_of
from stages.recordings.containers.images import count_images, picture_stimuli, stored_stimuli
from stages.recordings.containers.opening import is_container, open_container
from stages.recordings.containers.pictures import ENDINGS, picture_names, picture_numbers
from stages.recordings.containers.stored import StoredArray
from stages.recordings.guards.limit import current_limit
from stages.recordings.readers.npy_archive import integer_vector
from stages.recordings.recording import Recording
from stages.recordings.recording_format import RecordingFormat, recording_path
from stages.stimuli.stimuli import Stimuli

if TYPE_CHECKING:
    from stages.recordings.settings import RecordingSettings

#: Names that images have where `stimuli.key` names none.
IMAGE_KEYS = (ArrayNames.images, "img")


class ArraysFormat(RecordingFormat):
    """One container of named arrays; see `ArrayNames` for what they are.

    Any further array of shape (n_neurons,) becomes a column of the neurons. Pictures may take the
    place of images: in a folder `images` of a folder of `.npy` files, or those that `image_files`
    names, relative to that folder or to the one that the file is in.
    """

    def read(self, settings: RecordingSettings) -> Recording:
        """See `RecordingFormat.read`."""
        file = _File.of(settings)
        stored = file.require("responses")
        responses = _in_order(stored)
        given = {
            key: values
            for key in ("image", "tier", "unit_id", "x", "y")
            if (values := file.vector(key)) is not None
        }
        held = file.images(given.get("image"))
        return Recording.from_arrays(
            responses,
            given.pop("image", None),
            name=settings.name,
            n_images=None if held is None else held.number,
            image_id=file.vector("image_id") if held is None else held.ids,
            split=settings.split,
            columns=file.columns(stored, responses.shape[-1]),
            **given,
        )

    def recognises(self, path: Path) -> bool:
        """Whether it holds an array `responses`."""
        return is_container(path) and ArrayNames.responses in open_container(path)

    def images_path(self, settings: RecordingSettings) -> Path | None:
        """The recording's own path, where it holds images."""
        return None if _File.of(settings).images(None) is None else recording_path(settings)

    def own_images(self, settings: RecordingSettings) -> Stimuli:
        """Its images, with the ids by which its trials name them."""
        file = _File.of(settings)
        held = file.images(file.vector("image"))
        if held is None:
            raise UserError(f"{settings.path} holds no images: name them in stimuli.path")
        ids = None if held.ids is None or held.ids.dtype.kind == "U" else held.ids
        if isinstance(held.source, StoredArray):
            return stored_stimuli(held.source, ids=ids)
        folder, names = held.source
        return picture_stimuli(folder, names, limit=current_limit(), ids=ids)

    def reads_images(self, path: Path) -> bool:
        """Whether it is a container of arrays or a folder of pictures."""
        is_pictures = path.is_dir() and bool(picture_names(path))
        return path.suffix.lower() != ".mat" and (is_container(path) or is_pictures)

    def read_images(self, path: Path, *, allow_pickle: bool) -> Stimuli:
        """See `RecordingFormat.read_images`."""
        return container_images(path)


def container_images(path: Path, *, key: str | None = None, axes: str | None = None) -> Stimuli:
    """Images of a container of arrays, or of a folder of pictures.

    Parameters
    ----------
    key : str, optional
        Name of the array; by default `images`, `img`, or the only one that may hold images.
    axes : str, optional
        See `stored_stimuli`.

    Raises
    ------
    UserError
        No such array, or one that holds no images.
    """
    if path.is_dir() and not is_container(path) and (names := picture_names(path)):
        if key is not None or axes is not None:
            raise UserError(
                f"{path} is a folder of pictures: leave out stimuli.key and stimuli.axes"
            )
        ids = picture_numbers(names)
        return picture_stimuli(path, names, limit=current_limit(), ids=ids)
    container = open_container(path)
    if key is None:
        stacks = [n for n, a in container.items() if len(a.shape) in (3, 4)]
        known = [name for name in IMAGE_KEYS if name in container] or stacks
        key = known[0] if len(known) == 1 or known[:1] == [ArrayNames.images] else None
    if key is None or key not in container:
        asked = "no array that is surely the images" if key is None else f"no array `{key}`"
        raise UserError(f"{path} has {asked} (it holds {_listed(container)}): name stimuli.key")
    ids = None
    named = container.get(ArrayNames.image_id)
    if named is not None and named.dtype.kind not in "SU":
        ids = _integers(named)
    return stored_stimuli(container[key], axes=axes, ids=ids)


class _Images(NamedTuple):
    """The images of a file: how many, their ids if it has any, and where they are."""

    number: int
    ids: NDArray[Any] | None
    source: StoredArray | tuple[Path, list[str]]


class _File(NamedTuple):
    """A recording's container, and what it calls its arrays."""

    path: Path
    names: ArrayNames
    container: Mapping[str, StoredArray]

    @classmethod
    def of(cls, settings: RecordingSettings) -> _File:
        path = recording_path(settings)
        return cls(path, settings.keys, open_container(path))

    def get(self, key: str) -> StoredArray | None:
        """An array by what it is; `UserError` where a name was given that is not there."""
        name = getattr(self.names, key)
        found = self.container.get(name)
        if found is None and name != getattr(ArrayNames, key):
            raise UserError(
                f"{self.path} has no array `{name}`, which recording.keys.{key} names (it holds "
                f"{_listed(self.container)}): correct the name"
            )
        return found

    def require(self, key: str) -> StoredArray:
        found = self.get(key)
        if found is None:
            raise UserError(
                f"{self.path} has no array `{key}` (it holds {_listed(self.container)}): add it, "
                f'or name it in [recording.keys], such as {key} = "..."'
            )
        return found

    def vector(self, key: str) -> NDArray[Any] | None:
        """Numbers or texts; MATLAB's vectors have an axis of length 1 more."""
        stored = self.get(key)
        if stored is None:
            return None
        if key in ("image", "image_id", "unit_id") and stored.dtype.kind not in "SU":
            return _integers(stored)
        return _flat(stored)

    def images(self, shown: NDArray[Any] | None) -> _Images | None:
        """The images of the file, or of its folder; `shown` is what its trials name them by."""
        ids, files = self.vector("image_id"), self.get("image_files")
        if files is not None:
            texts = texts_of(_flat(files))
            if texts is None:
                raise UserError(f"{files.where} must hold the names of pictures")
            folder = self.path if self.path.is_dir() else self.path.parent
            return _pictures(folder, texts.tolist(), ids, shown, numbered=False)
        if (stored := self.get("images")) is not None:
            return _Images(count_images(stored), ids, stored)
        folder = self.path / ArrayNames.images
        if names := picture_names(folder):
            return _pictures(folder, names, ids, shown, numbered=True)
        return None

    def columns(self, responses: StoredArray, n_neurons: int) -> dict[str, NDArray[Any]]:
        """Further arrays of one entry per neuron."""
        axis = None if responses.axes is None else {*responses.axes} & {"neuron"}
        found = {
            name: stored
            for name, stored in self.container.items()
            if name not in self.names.all()
            and _is_vector(stored, n_neurons)
            and stored.dtype.kind in "biufSU"
            and not (axis and stored.axes is not None and {*stored.axes} != axis)
        }
        last = [name.rpartition("/")[2] for name in found]
        return {
            (short if last.count(short) == 1 else name): _flat(found[name])
            for name, short in zip(found, last, strict=True)
        }


def _pictures(
    folder: Path,
    names: list[str],
    ids: NDArray[Any] | None,
    shown: NDArray[Any] | None,
    *,
    numbered: bool,
) -> _Images:
    """Pictures whose trials name them by file, with its ending or without, or by number."""
    if ids is None and shown is not None and (texts := texts_of(shown)) is not None:
        whole = any(text.lower().endswith(ENDINGS) for text in texts.tolist())
        ids = np.array([name if whole else name.rpartition(".")[0] for name in names])
    elif ids is None and numbered:
        ids = picture_numbers(names)
    return _Images(len(names), ids, (folder, names))


def _in_order(stored: StoredArray) -> NDArray[Any]:
    """Responses as (trial, neuron) or (image, repeat, neuron), where the file names its axes."""
    values = stored.read()
    if stored.dtype.kind not in "biuf":
        raise UserError(f"{stored.where} must hold numbers, found {stored.dtype}: check the file")
    for layout in (("trial", "neuron"), ("image", "repeat", "neuron")):
        if stored.axes is not None and sorted(stored.axes) == sorted(layout):
            values = np.transpose(values, [stored.axes.index(axis) for axis in layout])
    return values.astype(np.float32, copy=False)


def _is_vector(stored: StoredArray, length: int) -> bool:
    """Whether it has one entry of each; MATLAB has no vectors, only matrices."""
    of_matlab = stored.path.suffix.lower() == ".mat"
    shapes = ((length,), (1, length), (length, 1)) if of_matlab else ((length,),)
    return stored.shape in shapes


def _flat(stored: StoredArray) -> NDArray[Any]:
    values = stored.read()
    return values.reshape(-1) if values.ndim == 2 and 1 in values.shape else values


def _integers(stored: StoredArray) -> NDArray[np.int64]:
    return integer_vector(_flat(stored), stored.where)


def _listed(container: Mapping[str, StoredArray]) -> str:
    shown = [f"{name} {stored.shape}" for name, stored in list(container.items())[:20]]
    return ", ".join(shown) + (", ..." if len(container) > 20 else "") or "nothing"
