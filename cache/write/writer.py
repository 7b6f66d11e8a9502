"""The writer of a feature cache: each shard is on the disk before it is claimed."""

from __future__ import annotations

import dataclasses
import glob
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cache.errors import CacheError
from cache.format.arrays import CRC_BYTES, StoredArray
from cache.format.faults import file_faults
from cache.format.images import HELD
from cache.format.metadata import (
    ROOT,
    SHARD_SUMS,
    documents_of,
    finished_attributes,
    root_bytes,
)
from cache.write.atomic import replace_files
from cache.write.shards import ShardTokens, ShardWriter
from cache.write.temporaries import beside, discard


class CacheWriter(ShardWriter):
    """The one writer of a store; obtained from `write_cache`.

    A shard's files are written and synced, then the directories that name them, and only then
    `progress`: a kill or a power cut at any moment leaves it claiming no more than is on disk.
    The root declares the store complete last of all. Until then it holds a hash of the checksums of
    each shard; a resuming writer reads every shard, and writes anew what is not as it was written.
    """

    def __init__(self, path: Path, *, key: str, sound: bool = False) -> None:
        super().__init__(path, key=key, temporary=beside(path, "part"))
        name = glob.escape(self._temporary.name)
        for leftover in (self._temporary, *self._temporary.parent.glob(f"{name}-*")):
            discard(leftover)
        done = self.cache.shards_done
        self._progress = done.copy()
        self._tokens = [array for array in self._arrays.values() if array.tokens is not None]
        # An earlier version recorded no sums.
        sums = self.cache.store.attributes.get(SHARD_SUMS)
        if sound:
            self._sums = list(sums or [])
        elif not self.cache.complete:
            # Whatever became of the disk since.
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
        attributes = dict(self.cache.store.attributes)
        for unfinished in (SHARD_SUMS, HELD):
            attributes.pop(unfinished, None)
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


def has_file(store: Path, array: StoredArray, file: int) -> bool:
    """Whether a file of an array is there with the size it must have."""
    path = store / array.file_path(file)
    return path.is_file() and path.stat().st_size == array.file_size(file)
