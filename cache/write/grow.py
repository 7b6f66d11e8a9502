"""The growth of a finished cache: more images, and the cache as it was until they are there.

The larger cache is built beside the old one, from links to its files, and then takes its name. Only
the last shard of the old one, where it is not full, is written anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.errors import CacheError
from cache.feature_cache import FeatureCache, open_cache
from cache.format.arrays import StoredArray
from cache.format.images import HASHES, HELD, SETS, continues
from cache.format.metadata import ROOT, SHARD_SUMS, array_paths, documents_of, root_bytes
from cache.images import HashedImages, images_of
from cache.stores.zarr_internals import sync
from cache.write.atomic import link_file, make_durable, place_folder, replace_files
from cache.write.exchange import exchange
from cache.write.lock import WriterLock, writer_lock
from cache.write.temporaries import beside, discard, real_path, require_ours
from cache.write.writer import CacheWriter, shard_sum


class GrowingWriter(CacheWriter):
    """The writer of the larger cache, which takes the name of the old one when it is finished.

    Parameters
    ----------
    destination : path
        The old one.
    sound : bool
        What is there needs no check: it was linked just now.
    """

    def __init__(self, destination: Path, *, key: str, sound: bool) -> None:
        super().__init__(beside(destination, "grown"), key=key, sound=sound)
        self._destination = destination
        whole = self.cache.store.attributes[HELD] // self.cache.images_per_shard
        if damaged := [shard for shard in self.missing_shards() if shard < whole]:
            discard(self.path)
            raise _damaged(destination, damaged)

    def finish(self) -> None:
        """Declare the larger cache complete, and give it the name; see `CacheWriter.finish`."""
        super().finish()
        _place(self.path, self._destination)
        self.path, self.cache = self._destination, open_cache(str(self._destination))


def begin_growth(
    path: Path, images: HashedImages, provenance: Mapping[str, Any], lock: WriterLock
) -> bool | None:
    """Begin to add the images that a finished cache lacks, or go on with that.

    Returns
    -------
    bool or None
        Whether it was begun just now; None where there is nothing to add yet.

    Raises
    ------
    CacheError
        A cache that cannot grow: it is a part, damaged, or holds other pictures of these ids.
    """
    grown, stored = beside(path, "grown"), open_cache(str(path))
    lock.hold(grown)
    there = _open(grown, stored)
    if there is not None and there.complete:
        _place(grown, path)
        there, stored = None, open_cache(str(path))
    held = images_of(stored)
    added = images.lacking(held, where=stored.name)
    if not stored.complete or not len(added.ids):
        discard(grown)
        return None
    contents = stored.store.attributes["contents"]
    if contents["blocks"] != list(range(stored.n_blocks)):
        raise CacheError(
            f"{path} holds some blocks only, and lacks {len(added.ids):,} images: pull all of it, "
            "or name another [cache] path"
        )
    wanted = HashedImages(
        np.concatenate([held.ids, added.ids]), np.concatenate([held.hashes, added.hashes])
    )
    if there is not None and there.store.attributes[SETS][-1] == wanted.set:
        return False
    discard(grown)
    _begin(path, grown, stored, wanted, {**provenance, "images": len(added.ids)}, lock)
    return True


def put_back(path: Path) -> None:
    """Give a cache its name back if whoever enlarged it was killed before the larger one had it."""
    before = beside(path, "before")
    if path.exists():
        discard(before)
    elif before.exists():
        require_ours(before)
        before.rename(path)


def recover_grown(path: Path) -> None:
    """As `put_back`, for who only reads.

    Raises
    ------
    CacheError
        Another process writes there.
    """
    if not path.exists() and beside(path, "before").exists():
        with writer_lock(path):
            put_back(real_path(path))


def _open(grown: Path, stored: FeatureCache) -> FeatureCache | None:
    """What an earlier growth of this cache left, whole or not; None where nothing of use."""
    with suppress(CacheError):
        there = open_cache(str(grown))
        sets = there.store.attributes.get(SETS, [])
        own = stored.store.attributes
        if len(sets) > len(own.get(SETS, sets)) and continues(there.store.attributes, own):
            return there
    return None


def _begin(
    path: Path,
    grown: Path,
    stored: FeatureCache,
    wanted: HashedImages,
    provenance: Mapping[str, Any],
    lock: WriterLock,
) -> None:
    """Make the larger store, without the shards that it lacks; its root last."""
    old = stored.store.attributes
    names, n_images = array_paths(old["contents"]), len(wanted.ids)
    held = [sync(stored.store.trusted(name)) for name in names]
    tokens = [array for array in held if array.tokens is not None]
    arrays = {array.path: _enlarged(array, n_images, stored.images_per_shard) for array in held}
    files = range(tokens[0].n_files)
    sums = [shard_sum(path, tokens, file) for file in files]
    if damaged := [file for file in files if sums[file] != _recorded(tokens, file)]:
        raise _damaged(path, damaged)
    whole, n_shards = len(stored.image_ids) // stored.images_per_shard, arrays["progress"].shape[0]
    grown.mkdir()
    lock.hold(grown)
    for array in tokens:
        for file in files:
            link_file(path / array.file_path(file), grown / array.file_path(file))
    attributes = {name: value for name, value in old.items() if name != "metadata_sha256"}
    attributes |= {
        "complete": False,
        "provenance": {
            **old["provenance"],
            "appended": [*old["provenance"].get("appended", []), provenance],
        },
        SETS: [*old[SETS], wanted.set],
        HELD: len(stored.image_ids),
        SHARD_SUMS: [*sums[:whole], *[None] * (n_shards - whole)],
    }
    values: dict[str, NDArray[Any]] = {
        "image": wanted.ids,
        HASHES: wanted.hashes,
        "progress": np.arange(n_shards) < whole,
    }

    def written() -> Iterator[tuple[str, bytes | bytearray]]:
        yield from documents_of(attributes["contents"], arrays.values()).items()
        for name, content in values.items():
            yield arrays[name].file_path(0), arrays[name].encode(0, content)
        yield ROOT, root_bytes(attributes)

    replace_files(grown, written(), temporary=beside(grown, "part"))


def _enlarged(array: StoredArray, n_images: int, per_shard: int) -> StoredArray:
    rows = -(-n_images // per_shard) if array.path == "progress" else n_images
    chunk = rows if array.rows_per_shard is None else array.rows_per_chunk
    return replace(array, shape=(rows, *array.shape[1:]), rows_per_chunk=chunk, crcs=None)


def _recorded(tokens: Sequence[StoredArray], file: int) -> str:
    """The `shard_sum` that the record gives."""
    crcs = [
        array.crcs[chunks.start : chunks.stop].astype("<u4").tobytes()
        for array in tokens
        for chunks in [array.file_chunks(file)]
        if array.crcs is not None
    ]
    return hashlib.sha256(b"".join(crcs)).hexdigest()


def _damaged(path: Path, shards: Sequence[int]) -> CacheError:
    return CacheError(
        f"{path}: shards {list(shards)} are damaged, and nothing is added to a damaged cache: "
        "vitv1 cache repair mends it"
    )


def _place(grown: Path, path: Path) -> None:
    """Give the larger cache the old one's name, and delete the old one."""
    make_durable((each for each in grown.rglob("*") if each.is_file()), below=grown)
    if exchange(grown, path):
        make_durable([path], below=path.parent)
        discard(grown)
        return
    # Elsewhere there is a moment without a cache, which `put_back` ends after a kill.
    place_folder(grown, path, aside=beside(path, "before"))
    discard(beside(path, "before"))
