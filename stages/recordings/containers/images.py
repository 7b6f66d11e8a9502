"""Grey images out of one array of a container, or out of a folder of pictures."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache import UserError, as_array
from stages.recordings.containers.pictures import picture_path, read_picture
from stages.recordings.containers.stored import HeldArray, StoredArray
from stages.recordings.guards.limit import NUMBER, check_size
from stages.stimuli.stimuli import Stimuli

#: Names of the axes, in the order that everything else here has.
AXES = ("image", "row", "column", "channel")

#: Parts of red, green and blue in a grey value (ITU-R BT.601, as Pillow has it).
LUMINANCE = (0.299, 0.587, 0.114)

UINT8 = np.dtype(np.uint8)


def stored_stimuli(
    array: StoredArray, *, axes: str | None = None, ids: NDArray[np.int64] | None = None
) -> Stimuli:
    """Images of one array, read when asked for.

    Parameters
    ----------
    axes : str, optional
        Names of its axes in their order, such as "row column image". By default those that the
        container names, else image first; of a MATLAB file, image last.
    ids : array of shape (n_images,), optional
        Id of each; its position by default.

    Raises
    ------
    UserError
        No images: other axes, no numbers, other channels than 1 or 3, or ids of another number.
    """
    order = _order(array, axes)
    if array.dtype.kind not in "biuf":
        raise UserError(
            f"{array.where} must hold numbers, found {array.dtype}: name the images (stimuli.key)"
        )
    shape = [array.shape[i] for i in order]
    if shape[3:] not in ([], [1], [3]):
        raise UserError(
            f"{array.where} has {shape[3]} channels (shape {array.shape}): images have one or "
            "three; name its axes in stimuli.axes if they are in another order"
        )
    if 0 in shape:
        raise UserError(f"{array.where} has shape {array.shape}: it holds no images")
    own = np.arange(shape[0]) if ids is None else ids
    if len(own) != shape[0]:
        raise UserError(
            f"{array.where} holds {shape[0]} images, and there are {len(own)} image ids: one of "
            "each is needed"
        )
    rows = np.argsort(own, kind="stable")
    dtype = UINT8 if array.dtype.kind == "b" else array.dtype.newbyteorder("=")
    reader = _ArrayImages(array, order, own[rows], rows)
    if not array.by_rows:
        reader.whole()
    return Stimuli(
        ids=own[rows].astype(np.int64),
        image_shape=(shape[1], shape[2]),
        dtype=dtype,
        reader=reader,
        source=str(array.path),
        remarks=(*_colour_remark(array.where, shape[3:] == [3]), *_order_remark(array.where, own)),
    )


def count_images(array: StoredArray) -> int:
    """How many images an array holds, as `stored_stimuli` would read it."""
    return array.shape[_order(array, None)[0]]


def held_stimuli(name: str, images: Any, ids: NDArray[np.int64] | None) -> Stimuli:
    """Images in memory, from anything that `cache.as_array` takes; see `stored_stimuli`."""
    array = as_array(images, f"images of {name}", AXES[:3], AXES)
    held = HeldArray(
        path=Path(name),
        name="images",
        shape=array.shape,
        dtype=array.dtype,
        limit=array.nbytes * NUMBER,
        values=array,
    )
    return stored_stimuli(held, ids=ids)


def picture_stimuli(
    folder: Path, names: Sequence[str], *, limit: int, ids: NDArray[np.int64] | None = None
) -> Stimuli:
    """Images that are files of a folder, read when asked for; all are of one size.

    Raises
    ------
    UserError
        No pictures, or the first cannot be read; later, one of another size or type.
    """
    if not names:
        raise UserError(f"{folder} holds no pictures (.png, .jpg, .tif): name another folder")
    for name in names:
        picture_path(folder, name)
    own = np.arange(len(names)) if ids is None else ids
    rows = np.argsort(own, kind="stable")
    reader = _Pictures(folder, tuple(names[row] for row in rows), own[rows], limit)
    first = read_picture(picture_path(folder, reader.names[0]), limit)
    colour = first.ndim == 3
    grey = luminance(first) if colour else _plain(first)
    return Stimuli(
        ids=own[rows].astype(np.int64),
        image_shape=(grey.shape[0], grey.shape[1]),
        dtype=grey.dtype,
        reader=replace(reader, shape=grey.shape, dtype=grey.dtype),
        source=str(folder),
        remarks=_colour_remark(str(folder), colour),
    )


def luminance(images: NDArray[Any]) -> NDArray[Any]:
    """Grey values of colours along the last axis, in the same dtype; whole numbers are rounded."""
    kind = images.dtype
    wide = np.float64 if kind.itemsize > 2 else np.float32
    grey = images.astype(wide, copy=False) @ np.array(LUMINANCE, dtype=wide)
    return np.asarray((np.rint(grey) if kind.kind in "iu" else grey).astype(kind))


@dataclass(frozen=True)
class _Pictures:
    folder: Path
    names: tuple[str, ...]
    ids: NDArray[np.int64]
    limit: int
    shape: tuple[int, ...] = ()
    dtype: np.dtype[Any] = UINT8

    def __call__(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        size = len(ids) * int(np.prod(self.shape)) * NUMBER
        check_size(size, f"{len(ids)} pictures of {self.folder}", self.limit)
        images = np.empty((len(ids), *self.shape), dtype=self.dtype)
        for place, row in enumerate(np.searchsorted(self.ids, ids).tolist()):
            name = self.names[row]
            pixels = read_picture(picture_path(self.folder, name), self.limit)
            pixels = luminance(pixels) if pixels.ndim == 3 else _plain(pixels)
            if pixels.shape != self.shape or pixels.dtype != self.dtype:
                raise UserError(
                    f"{self.folder / name} is {_told(pixels.shape)} {pixels.dtype}, "
                    f"{self.names[0]} {_told(self.shape)} {self.dtype}: all pictures must be alike"
                )
            images[place] = pixels
        return images


class _ArrayImages:
    """Reader of an array's images; what cannot be read in part is held once per process."""

    def __init__(
        self,
        array: StoredArray,
        order: tuple[int, ...],
        ids: NDArray[np.int64],
        rows: NDArray[np.intp],
    ) -> None:
        self._parts = array, order, ids, rows
        self._lock = threading.Lock()
        self._whole: NDArray[Any] | None = None

    def __reduce__(self) -> tuple[type[_ArrayImages], tuple[Any, ...]]:
        return _ArrayImages, self._parts

    def whole(self) -> NDArray[Any]:
        """A view of shape (image, row, column[, channel]) of all of it, as stored."""
        array, order, *_ = self._parts
        with self._lock:
            if self._whole is None:
                self._whole = np.transpose(array.read(), order)
            return self._whole

    def __call__(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        array, order, own, places = self._parts
        rows = places[np.searchsorted(own, ids)]
        if array.by_rows:
            images = np.transpose(array.read(rows, axis=order[0]), order)
        else:
            images = self.whole()[rows]
        if images.ndim == 4:
            images = images[..., 0] if images.shape[3] == 1 else luminance(images)
        return np.ascontiguousarray(_plain(images))


def _plain(images: NDArray[Any]) -> NDArray[Any]:
    images = images.astype(images.dtype.newbyteorder("="), copy=False)
    return images.astype(np.uint8) if images.dtype.kind == "b" else images


def _order(array: StoredArray, axes: str | None) -> tuple[int, ...]:
    """Positions of the axes image, row, column and, if there is one, channel."""
    n = len(array.shape)
    wanted = AXES[:n]
    expected = (
        f"{array.where} has shape {array.shape}: images have 3 axes (image, row, column) or 4"
    )
    if axes is not None:
        named = tuple(axes.split())
        if sorted(named) != sorted(wanted) or n not in (3, 4):
            raise UserError(f'{expected}, and stimuli.axes = "{axes}" must name each of them once')
    elif n not in (3, 4):
        raise UserError(f"{expected}: check the file, or name another array in stimuli.key")
    elif array.axes is not None and sorted(array.axes) == sorted(wanted):
        named = array.axes
    else:
        last = array.path.suffix.lower() == ".mat"
        named = (*wanted[1:], wanted[0]) if last else wanted
    return tuple(named.index(axis) for axis in wanted)


def _colour_remark(where: str, colour: bool) -> tuple[str, ...]:
    said = f"{where}: colours were made grey (0.299 red + 0.587 green + 0.114 blue)"
    return (said,) if colour else ()


def _order_remark(where: str, ids: NDArray[np.int64]) -> tuple[str, ...]:
    said = f"{where}: the ids of the images are not in increasing order; check that they are theirs"
    return (said,) if (np.diff(ids) < 0).any() else ()


def _told(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
