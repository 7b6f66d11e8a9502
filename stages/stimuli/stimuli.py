"""Images that were shown: read by image id, in the dtype that they are stored in."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from operator import getitem
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache import HashedImages, UserError, as_array, image_sha256, whole_numbers
from stages.stimuli.uniform import uniform

#: Images read at a time wherever a whole set is walked through.
READ_BATCH = 256


@dataclass(frozen=True, kw_only=True)
class Stimuli:
    """A set of grey images, read batch by batch.

    Parameters
    ----------
    ids : array of shape (n_images,)
        Image ids as the recordings name them, strictly increasing.
    image_shape : tuple of int
        Rows and columns of every image.
    dtype : numpy dtype
        The stored dtype; nothing is converted before a batch is used.
    reader : callable
        Takes image ids, array of shape (n,), and returns the images, array of shape
        (n, row, column). To serve other processes it must be picklable.
    source : str
        Where the images come from, for messages.
    crc32 : array of shape (n_images,), optional
        Checksum of each image from `digest`, which every read is then compared with: most readers
        go back to files, which may change after they were hashed.
    remarks : sequence of str
        What was changed in them while reading, such as colours made grey.
    """

    ids: NDArray[np.int64]
    image_shape: tuple[int, int]
    dtype: np.dtype[np.generic]
    reader: Callable[[NDArray[np.int64]], NDArray[np.generic]]
    source: str
    crc32: NDArray[np.uint32] | None = None
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.ids.ndim != 1 or (np.diff(self.ids) <= 0).any():
            raise ValueError("stimulus ids must be a strictly increasing vector")

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, ids: NDArray[np.int64]) -> NDArray[np.generic]:
        """Images in the order asked, array of shape (n, row, column), stored dtype.

        Raises
        ------
        UserError
            An id that the set does not hold, or an image that changed since it was hashed.
        """
        ids = self._require(ids)
        images = self.reader(ids)
        if self.crc32 is not None:
            known = self.crc32[np.searchsorted(self.ids, ids)].tolist()
            for image_id, image, crc in zip(ids.tolist(), images, known, strict=True):
                if zlib.crc32(_content(image)) != crc:
                    raise UserError(
                        f"{self.source}: image {image_id} is not the one any more that the command "
                        "began with: run again"
                    )
        return images

    def select(self, ids: NDArray[np.int64]) -> Stimuli:
        """The subset of the given ids (duplicates dropped, in increasing order)."""
        chosen = np.unique(self._require(ids))
        crc32 = None if self.crc32 is None else self.crc32[np.searchsorted(self.ids, chosen)]
        return replace(self, ids=chosen, crc32=crc32)

    def batches(
        self, size: int = READ_BATCH
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.generic]]]:
        """Ids and images of consecutive batches."""
        for first in range(0, len(self), size):
            ids = self.ids[first : first + size]
            yield ids, self.read(ids)

    def _require(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        ids = whole_numbers(ids, "image ids")
        missing = np.setdiff1d(ids, self.ids)
        if len(missing):
            raise UserError(
                f"{len(missing)} image ids are not in {self.source}, the first is {missing[0]} "
                f"(it holds {len(self)} images, ids {self.ids[0]}..{self.ids[-1]}): "
                "check that the recording and the images belong together"
            )
        return ids


def stimuli_from_array(images: NDArray[np.generic], *, source: str) -> Stimuli:
    """Images held in memory, array of shape (n_images, row, column); the id is the position."""
    if np.ma.isMaskedArray(images):
        images = as_array(images, f"images of {source}", ("image", "row", "column"))
    if images.ndim != 3:
        raise UserError(
            f"{source}: images must have 3 axes (image, row, column), found shape {images.shape}"
        )
    return Stimuli(
        ids=np.arange(len(images), dtype=np.int64),
        image_shape=(images.shape[1], images.shape[2]),
        dtype=images.dtype,
        # Unlike a closure it can be pickled to another process.
        reader=partial[Any](getitem, images),
        source=source,
    )


@dataclass(frozen=True, kw_only=True)
class StimulusDigest:
    """What the images contain: one hash over all, and a checksum per image to tell which differ.

    `crc32` is an array of shape (n_images,), uint32; `images` holds the ids with a SHA-256 of each,
    as caches have it; `stimuli` are the images themselves.
    """

    sha256: str
    crc32: NDArray[np.uint32]
    images: HashedImages = field(repr=False)
    stimuli: Stimuli = field(repr=False)
    _uniform: dict[tuple[tuple[int, int], tuple[int, int]], bool] = field(
        default_factory=dict, repr=False
    )

    def holds_uniform(self, *, crop: tuple[int, int], size: tuple[int, int]) -> bool:
        """Whether any image is uniform once cropped and resized; see `uniform`."""
        if (crop, size) not in self._uniform:
            parts = (images for _, images in self.stimuli.batches())
            found = any(uniform(images, crop=crop, size=size).any() for images in parts)
            self._uniform[crop, size] = found
        return self._uniform[crop, size]


def _content(image: NDArray[np.generic]) -> bytes:
    return np.ascontiguousarray(image, dtype=image.dtype.newbyteorder("<")).tobytes()


def digest(stimuli: Stimuli) -> StimulusDigest:
    """Hash ids, shape, dtype and pixels of every image, and refuse images that are not finite.

    Raises
    ------
    UserError
        NaN or infinite pixels; the message counts the images and names the first.
    """
    whole = hashlib.sha256()
    little = stimuli.dtype.newbyteorder("<")
    whole.update(f"{len(stimuli)} {stimuli.image_shape} {little.str}".encode())
    whole.update(stimuli.ids.astype("<i8").tobytes())
    sums = np.empty(len(stimuli), dtype=np.uint32)
    hashes = np.empty((len(stimuli), hashlib.sha256().digest_size), dtype=np.uint8)
    broken: list[int] = []
    row = 0
    for ids, images in stimuli.batches():
        if np.issubdtype(images.dtype, np.floating):
            finite = np.isfinite(images).all(axis=(1, 2))
            broken.extend(int(i) for i in ids[~finite])
        for image in images:
            content = _content(image)
            whole.update(content)
            sums[row] = zlib.crc32(content)
            hashes[row] = np.frombuffer(image_sha256(image), dtype=np.uint8)
            row += 1
    if broken:
        raise UserError(
            f"{len(broken)} images of {stimuli.source} hold NaN or infinite pixels, the first has "
            f"id {broken[0]}: repair or drop them"
        )
    images_held = HashedImages(stimuli.ids, hashes)
    return StimulusDigest(sha256=whole.hexdigest(), crc32=sums, images=images_held, stimuli=stimuli)
