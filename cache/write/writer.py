"""The writer of a feature cache: each shard is on the disk before it is claimed."""

from __future__ import annotations

import dataclasses
import glob
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.arguments import whole_numbers
from cache.errors import CacheError, UserError
from cache.feature_cache import open_cache
from cache.format.arrays import CRC_BYTES, StoredArray
from cache.format.faults import file_faults
from cache.format.identity import differences, key_of
from cache.format.layout import Layout, TokenShape
from cache.format.metadata import (
    FORMAT,
    FORMAT_VERSION,
    ROOT,
    SHARD_SUMS,
    documents_of,
    finished_attributes,
    new_attributes,
    planned_arrays,
    root_bytes,
)
from cache.stores.base import local_document
from cache.write.atomic import place_folder, replace_files
from cache.write.lock import WriterLock, writer_lock
from cache.write.shards import ShardTokens, ShardWriter
from cache.write.temporaries import beside, discard, real_path, require_ours


class CacheWriter(ShardWriter):
    """The one writer of a store; obtained from `write_cache`.

    A shard's files are written and synced, then the directories that name them, and only then
    `progress`: a kill or a power cut at any moment leaves it claiming no more than is on disk.
    The root declares the store complete last of all. Until then it holds a hash of the checksums of
    each shard; a resuming writer reads every shard, and writes anew what is not as it was written.
    """

    def __init__(self, path: Path, *, key: str) -> None:
        super().__init__(path, key=key, temporary=beside(path, "part"))
        name = glob.escape(self._temporary.name)
        for leftover in (self._temporary, *self._temporary.parent.glob(f"{name}-*")):
            discard(leftover)
        done = self.cache.shards_done
        self._progress = done.copy()
        self._tokens = [array for array in self._arrays.values() if array.tokens is not None]
        if not self.cache.complete:
            # Whatever became of the disk since. An earlier version recorded no sums.
            sums = self.cache.store.attributes.get(SHARD_SUMS)
            self._progress[:] = [
                done[shard] and self._is_whole(shard) and self._is_sound(shard, sums)
                for shard in range(len(done))
            ]
            self._sums = [self._sum(s) if held else None for s, held in enumerate(self._progress)]
            if (self._progress != done).any() or self._sums != sums:
                self._record_progress()

    def missing_shards(self) -> list[int]:
        """Shards that are not durably written, in order."""
        return [int(s) for s in np.flatnonzero(~self._progress)]

    def write_shard(self, shard: int, tokens: ShardTokens) -> None:
        """Write every array of one shard, then record it; see `write_files`."""
        self.write_files(shard, tokens)
        self.record(shard)

    def record(self, shard: int) -> None:
        """Note that a shard's files are durably written.

        Raises
        ------
        FileNotFoundError
            They are not all there.
        """
        if not self._is_whole(shard):
            raise FileNotFoundError(f"{self.path}: files of shard {shard} are missing")
        self._progress[shard], self._sums[shard] = True, self._sum(shard)
        self._record_progress()

    def finish(self) -> None:
        """Declare the store complete, with the checksum of everything in it.

        Raises
        ------
        RuntimeError
            A shard is missing.
        CacheError
            A shard is not as it was written; the next writer writes it again.
        """
        if self.cache.complete:
            return
        if self.missing_shards():
            raise RuntimeError(f"shards {self.missing_shards()} are not written")
        for shard, written in enumerate(self._sums):
            self._progress[shard] = self._is_whole(shard) and self._sum(shard) == written
        if changed := self.missing_shards():
            self._record_progress()
            raise CacheError(
                f"{self.path}: shards {changed} were changed after they had been written: look for "
                "who else writes there, then repeat, and they are written again"
            )
        arrays = self._arrays.values()
        with_crcs = [dataclasses.replace(a, crcs=stored_crcs(self.path, a)) for a in arrays]
        attributes = {k: v for k, v in self.cache.store.attributes.items() if k != SHARD_SUMS}
        documents = documents_of(attributes["contents"], with_crcs)
        root = root_bytes(finished_attributes(attributes, documents))
        for files in (documents, {ROOT: root}):
            replace_files(self.path, files.items(), temporary=self._temporary)

    def _record_progress(self) -> None:
        root = root_bytes({**self.cache.store.attributes, SHARD_SUMS: self._sums})
        replace_files(self.path, [(ROOT, root)], temporary=self._temporary)
        self._write([(self._arrays["progress"], 0, self._progress.astype(np.uint8))])

    def _is_whole(self, shard: int) -> bool:
        return all(has_file(self.path, array, shard) for array in self._tokens)

    def _is_sound(self, shard: int, sums: Sequence[str | None] | None) -> bool:
        """Whether every byte of a shard is as its checksums and the recorded sum say."""
        return (sums is None or sums[shard] == self._sum(shard)) and not any(
            self._has_fault(array, shard) for array in self._tokens
        )

    def _has_fault(self, array: StoredArray, shard: int) -> bool:
        content = np.fromfile(self.path / array.file_path(shard), dtype=np.uint8)
        return any(file_faults(array, shard, content, ids=None))

    def _sum(self, shard: int) -> str:
        return shard_sum(self.path, self._tokens, shard)


@contextmanager
def write_cache(
    path: Path,
    *,
    settings: Mapping[str, Any],
    provenance: Mapping[str, Any],
    image_ids: NDArray[np.int64],
    shape: TokenShape,
    layout: Layout,
    replace: bool = False,
    format_version: int = FORMAT_VERSION,
) -> Iterator[CacheWriter]:
    """Create a store, or resume one of the same key, under the writer's lock.

    Parameters
    ----------
    settings : mapping
        Everything that changes a token; its hash is the key.
    provenance : mapping
        How the store is being made (versions, host, time); kept from the first run on resuming.
    image_ids : array of shape (n_images,)
        Strictly increasing ids, row by row.
    layout : Layout
        Used for a new store; a resumed one keeps its own.
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
        Image ids that are none, or do not increase.
    """
    path, image_ids = real_path(path), _increasing(image_ids)
    with writer_lock(path) as lock:
        for leftover in ("old", "new", "part"):
            discard(beside(path, leftover))
        if path.exists() and _gives_way(path, settings, replace=replace):
            require_ours(path)
            # Away in one step: a kill while deleting leaves nothing half there.
            path.rename(beside(path, "old"))
            discard(beside(path, "old"))
        if not path.exists():
            version = {"format_version": format_version}
            attributes = new_attributes(settings, provenance, shape, layout, **version)
            attributes[SHARD_SUMS] = [None] * layout.n_shards(len(image_ids))
            arrays = planned_arrays(shape, layout, n_images=len(image_ids), **version)
            _create(path, attributes, arrays, image_ids, lock)
        writer = CacheWriter(path, key=key_of(settings))
        if not (writer.cache.complete or np.array_equal(writer.cache.image_ids, image_ids)):
            raise CacheError(
                f"{path}/image/c/0 holds other image ids than the experiment: vitv1 cache repair"
            )
        yield writer


def _increasing(image_ids: NDArray[np.int64]) -> NDArray[np.int64]:
    ids = whole_numbers(image_ids, "image_ids")
    if not len(ids) or (np.diff(ids) <= 0).any():
        raise UserError("image_ids must be one or more whole numbers, each above the one before")
    return ids


def stored_crcs(store: Path, array: StoredArray) -> NDArray[np.uint32]:
    """The checksum that every chunk ends in, array of shape (n_chunks,)."""
    crcs = b"".join(_file_crcs(store, array, file) for file in range(array.n_files))
    return np.frombuffer(crcs, dtype="<u4").astype(np.uint32)


def shard_sum(store: Path, arrays: Iterable[StoredArray], shard: int) -> str:
    """The sha256 of the checksums of all chunks of a shard, array by array."""
    return hashlib.sha256(b"".join(_file_crcs(store, a, shard) for a in arrays)).hexdigest()


def _file_crcs(store: Path, array: StoredArray, file: int) -> bytes:
    crcs = bytearray()
    with (store / array.file_path(file)).open("rb") as content:
        for position in range(len(array.file_chunks(file))):
            content.seek((position + 1) * array.stored_chunk_bytes - CRC_BYTES)
            crcs += content.read(CRC_BYTES)
    return bytes(crcs)


def _gives_way(path: Path, settings: Mapping[str, Any], *, replace: bool) -> bool:
    """Whether a new store replaces what is there; refused unless `replace` and a store."""
    try:
        stored = open_cache(str(path))
    except CacheError as error:
        ours = (path / ROOT).exists() and FORMAT.encode() in local_document(path / ROOT)
        if replace and ours:
            return True
        raise CacheError(f"{error}; nothing was overwritten") from None
    if replace or stored.key == key_of(settings):
        return stored.key != key_of(settings)
    differing = differences(settings, stored.settings)
    # A cache that differs in its images alone is right for other recordings.
    of_images = all(each.startswith("images") for each in differing)
    raise CacheError(
        f"{path} holds other tokens than this experiment names ({'; '.join(differing)}): name "
        f"another [cache] path{'' if of_images else ', or vitv1 extract --replace'}"
    )


def _create(
    path: Path,
    attributes: Mapping[str, Any],
    arrays: Sequence[StoredArray],
    image_ids: NDArray[np.int64],
    lock: WriterLock,
) -> None:
    """Write the empty store beside its place and move it there whole."""
    temporary = beside(path, "new")
    image, progress, *_ = arrays
    files: dict[str, bytes | bytearray] = {
        ROOT: root_bytes(attributes),
        **documents_of(attributes["contents"], arrays),
        image.file_path(0): image.encode(0, image_ids),
        progress.file_path(0): progress.encode(0, np.zeros(progress.shape, dtype=np.uint8)),
    }
    temporary.mkdir()
    lock.hold(temporary)
    try:
        replace_files(temporary, files.items(), temporary=beside(path, "part"))
        place_folder(temporary, path)
    except BaseException:
        discard(temporary)
        raise


def has_file(store: Path, array: StoredArray, file: int) -> bool:
    """Whether a file of an array is there with the size it must have."""
    path = store / array.file_path(file)
    return path.is_file() and path.stat().st_size == array.file_size(file)
