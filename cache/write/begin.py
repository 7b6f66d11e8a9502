"""The beginning of writing: a new store, one that goes on, one that gets more images, or none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.arguments import whole_numbers
from cache.errors import CacheError, UserError
from cache.feature_cache import FeatureCache, open_cache
from cache.format.arrays import StoredArray
from cache.format.identity import differences, key_of
from cache.format.layout import Layout, TokenShape
from cache.format.metadata import (
    FORMAT,
    FORMAT_VERSION,
    ROOT,
    SHARD_SUMS,
    documents_of,
    new_attributes,
    planned_arrays,
    root_bytes,
)
from cache.images import HashedImages, as_images, images_of
from cache.stores.base import local_document
from cache.write.atomic import place_folder, replace_files
from cache.write.grow import GrowingWriter, begin_growth, put_back
from cache.write.lock import WriterLock, writer_lock
from cache.write.temporaries import beside, discard, real_path, require_ours
from cache.write.writer import CacheWriter


@contextmanager
def write_cache(
    path: Path,
    *,
    settings: Mapping[str, Any],
    provenance: Mapping[str, Any],
    image_ids: NDArray[np.int64],
    shape: TokenShape,
    layout: Layout,
    image_sha256: NDArray[np.uint8] | None = None,
    replace: bool = False,
    format_version: int = FORMAT_VERSION,
) -> Iterator[CacheWriter]:
    """Create a store, resume one of the same key, or add images to it, under the writer's lock.

    A finished store with hashes gets the images that it lacks. It stays as it was until the writer
    finishes; then it has them in one step. One that is begun is finished first, with the images
    that it was begun with: `write_cache` again adds the others.

    Parameters
    ----------
    settings : mapping
        Everything that changes a token; its hash is the key.
    provenance : mapping
        How the store is being made (versions, host, time); kept from the first run on resuming.
    image_ids : array of shape (n_images,)
        Strictly increasing ids, row by row.
    layout : Layout
        Used for a new store; one that is there keeps its own.
    image_sha256 : array of shape (n_images, 32), optional
        Hash of each raw image. A store without them serves and gets no other images.
    replace : bool
        Delete a store of another key instead of refusing it.
    format_version : int
        Of a new store, 1 for readers of version 0.1; a resumed one keeps its own.

    Raises
    ------
    CacheError
        Another writer at work; a store of another key without `replace`; something at `path`,
        or in what would be deleted, that is no feature cache.
    UserError
        Image ids that are none, or do not increase; hashes, blocks that differ, or blocks without
        CLS for format 1.
    """
    path, ids = real_path(path), _increasing(image_ids)
    images = None if image_sha256 is None else as_images(ids, image_sha256)
    if images is not None and format_version == 1:
        raise UserError("format_version = 1 knows no hashes of images: leave out image_sha256")
    if format_version == 1 and (shape.differing or not shape.has_cls):
        raise UserError("format_version = 1 knows no blocks that differ, or without CLS: use 2")
    with writer_lock(path) as lock:
        put_back(path)
        for leftover in ("old", "new", "part", "grown.vitv1-part"):
            discard(beside(path, leftover))
        if path.exists() and _gives_way(path, settings, images, replace=replace):
            require_ours(path)
            # Away in one step: a kill while deleting leaves nothing half there.
            path.rename(beside(path, "old"))
            discard(beside(path, "old"))
            discard(beside(path, "grown"))
        if not path.exists():
            hashed = images is not None
            attributes = new_attributes(
                settings,
                provenance,
                shape,
                layout,
                image_sets=[] if images is None else [images.set],
                format_version=format_version,
            )
            attributes[SHARD_SUMS] = [None] * layout.n_shards(len(ids))
            arrays = planned_arrays(
                shape, layout, n_images=len(ids), hashed=hashed, format_version=format_version
            )
            _create(path, attributes, arrays, ids, images, lock)
        key = key_of(settings)
        begun = None if images is None else begin_growth(path, images, provenance, lock)
        if begun is not None:
            yield GrowingWriter(path, key=key, sound=begun)
            return
        writer = CacheWriter(path, key=key)
        if images is not None:
            _require_images(images, writer.cache, writer.missing_shards())
        elif not (writer.cache.complete or np.array_equal(writer.cache.image_ids, ids)):
            raise CacheError(
                f"{path}/image/c/0 holds other image ids than the experiment: vitv1 cache repair"
            )
        yield writer


def _increasing(image_ids: NDArray[np.int64]) -> NDArray[np.int64]:
    ids = whole_numbers(image_ids, "image_ids")
    if not len(ids) or (np.diff(ids) <= 0).any():
        raise UserError("image_ids must be one or more whole numbers, each above the one before")
    return ids


def _gives_way(
    path: Path, settings: Mapping[str, Any], images: HashedImages | None, *, replace: bool
) -> bool:
    """Whether a new store replaces what is there; refused unless `replace` and a store."""
    try:
        stored = open_cache(str(path))
    except CacheError as error:
        ours = (path / ROOT).exists() and FORMAT.encode() in local_document(path / ROOT)
        if replace and ours:
            return True
        raise CacheError(f"{error}; nothing was overwritten") from None
    if stored.key == key_of(settings):
        try:
            if images is not None:
                _require_images(images, stored, np.flatnonzero(~stored.shards_done))
        except CacheError:
            if not replace:
                raise
            return True
        return False
    if replace:
        return True
    differing = differences(settings, stored.settings)
    # A cache that differs in its images alone is right for other recordings.
    of_images = all(each.startswith("images") for each in differing)
    raise CacheError(
        f"{path} holds other tokens than this experiment names ({'; '.join(differing)}): name "
        f"another [cache] path{'' if of_images else ', or vitv1 extract --replace'}"
    )


def _require_images(
    images: HashedImages, cache: FeatureCache, missing: Sequence[int] | NDArray[np.intp]
) -> None:
    held, size = images_of(cache), cache.images_per_shard
    images.require(held, missing, per_shard=size, where=cache.name)


def _create(
    path: Path,
    attributes: Mapping[str, Any],
    arrays: Sequence[StoredArray],
    image_ids: NDArray[np.int64],
    images: HashedImages | None,
    lock: WriterLock,
) -> None:
    """Write the empty store beside its place and move it there whole."""
    temporary = beside(path, "new")
    image, progress, hashes, *_ = arrays
    files: dict[str, bytes | bytearray] = {
        ROOT: root_bytes(attributes),
        **documents_of(attributes["contents"], arrays),
        image.file_path(0): image.encode(0, image_ids),
        progress.file_path(0): progress.encode(0, np.zeros(progress.shape, dtype=np.uint8)),
    }
    if images is not None:
        files[hashes.file_path(0)] = hashes.encode(0, images.hashes)
    temporary.mkdir()
    lock.hold(temporary)
    try:
        replace_files(temporary, files.items(), temporary=beside(path, "part"))
        place_folder(temporary, path)
    except BaseException:
        discard(temporary)
        raise
