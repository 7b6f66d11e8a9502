"""A store that compares every byte that it hands out with the cache's metadata.

It wraps any zarr store, so whatever reads through it is covered: lazy arrays, dask, `Block.read`,
from a directory, a packed file or a URL.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from zarr.abc.buffer import Buffer, BufferPrototype
from zarr.abc.store import ByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.buffer import default_buffer_prototype

from cache.errors import CacheError
from cache.format.arrays import CRC_BYTES, StoredArray
from cache.format.faults import fault_in
from cache.format.images import HASHES
from cache.format.metadata import ROOT, SHARD_SUMS, array_paths, read_array
from cache.stores.base import concurrently, several
from cache.stores.rooted import REMEDY, RootedStore


class VerifyingStore(RootedStore):
    """Reads of one cache, each compared with what its metadata says.

    In a finished store every zarr.json must have the hash that the root records, and every chunk
    the checksum that its array records. In an unfinished one shards that were not complete on
    opening cannot be read; the checksums of all chunks of another must give the sum that the root
    recorded then. What no record covers counts only if the root, read again afterwards, still has
    the same key. So a store that takes this one's place is never read for it; but what a writer
    appended to it since is taken up, as the rows before stay where they are. A chunk that is absent
    raises; plain zarr would return the fill value.

    Parameters
    ----------
    store, where : zarr store, str
        Where the bytes come from, and its path or URL for messages.
    root, attributes : bytes, mapping
        The root's zarr.json, and what `cache.format.metadata.read_root` makes of it.
    """

    def __init__(
        self, store: Store, *, where: str, root: bytes, attributes: Mapping[str, Any]
    ) -> None:
        super().__init__(store, where=where, root=root, attributes=attributes)
        sums = None if self._complete else attributes.get(SHARD_SUMS)
        self._sums: dict[int, str | None] | None = None if sums is None else dict(enumerate(sums))
        self._taken_up: set[int] = set()
        self._done: NDArray[np.bool_] | None = None

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Bytes of a zarr.json or of a chunk, or an error that names what is damaged."""
        prototype = prototype or default_buffer_prototype()
        return await self._following(lambda: self._get(key, prototype, byte_range))

    async def _get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None
    ) -> Buffer | None:
        if key == ROOT or key.endswith("/zarr.json"):
            content = await self._document(key)
            return None if content is None else prototype.buffer.from_bytes(content)
        array = await self.trusted(key.partition("/c/")[0])
        file = array.file_of(key)
        if file is None:
            return None
        if not self._complete and array.tokens is not None:
            await self._require_written(file)
            await self._take_up(file)
        value = await self._store.get(key, prototype, byte_range)
        if value is None:
            raise await self._damaged(array, file, "absent")
        await self._check(array, file, value, byte_range)
        if array.crcs is None:
            await self._require_same()
        return value

    # The inherited ones ask the wrapped store, past every check.
    get_partial_values = several
    _get_many = Store._get_many

    async def read_chunk(self, path: str, chunk: int) -> NDArray[Any]:
        """Rows of one chunk of the array at `path`, array of shape (rows of the chunk, ...)."""
        return await self._following(lambda: self._read_chunk(path, chunk))

    async def _read_chunk(self, path: str, chunk: int) -> NDArray[Any]:
        array = await self.trusted(path)
        file = chunk * array.rows_per_chunk // array.rows_per_file
        first = (chunk - array.file_chunks(file).start) * array.stored_chunk_bytes
        part = RangeByteRequest(first, first + array.stored_chunk_bytes)
        value = await self._get(array.file_path(file), default_buffer_prototype(), part)
        assert value is not None
        return array.decode(chunk, _bytes_of(value))

    async def check_index(self, path: str, file: int) -> None:
        """Require that a shard's file ends as it must, which no chunk can tell."""
        array = await self.trusted(path)
        if array.rows_per_shard is not None:
            await self.get(array.file_path(file), byte_range=SuffixByteRequest(array.index_size))

    async def image_ids(self) -> NDArray[np.int64]:
        """Image id of every row, array of shape (n_images,)."""
        if self._ids is None:
            self._ids = (await self.read_chunk("image", 0)).astype(np.int64)
        return self._ids

    async def image_sha256(self) -> NDArray[np.uint8] | None:
        """Hash of every row's image, array of shape (n_images, 32); None where there are none."""
        if HASHES not in self.attributes["contents"]:
            return None
        return await self.read_chunk(HASHES, 0)

    async def shards_done(self) -> NDArray[np.bool_]:
        """Which shards are complete, as of the first call, array of shape (n_shards,)."""
        if self._done is None:
            done = await self.read_chunk("progress", 0) == 1
            if self._sums is not None:
                # A writer records the sum first, and `progress` may be younger than the root.
                done &= [self._sums.get(file) is not None for file in range(len(done))]
            self._done = done
        return self._done

    async def trusted(self, path: str) -> StoredArray:
        """An array's description, checked."""
        return await self._following(lambda: self._trusted(path))

    async def _trusted(self, path: str) -> StoredArray:
        if path in self._arrays:
            return self._arrays[path]
        folders = path.split("/")
        parents = ["/".join(folders[:depth]) for depth in range(1, len(folders))]
        *_, content = await asyncio.gather(
            *(self._document(f"{place}/zarr.json") for place in [*parents, path])
        )
        if content is None:
            raise CacheError(f"{self.where} holds no {path}: see vitv1 cache info")
        version = self.attributes["format_version"]
        array = read_array(
            path, content, where=self.where, finished=self._complete, format_version=version
        )
        # Before anyone allocates what it claims.
        await self._require_real_size(array)
        if self._sums is not None and array.tokens is not None:
            array = replace(array, crcs=np.zeros(array.n_chunks, dtype=np.uint32))
        # One object for all who ask at a time: `_take_up` fills it.
        return self._arrays.setdefault(path, array)

    async def getsize(self, key: str) -> int:
        """Bytes of one file; unlike the inherited one it does not read the file."""
        return await self._store.getsize(key)

    async def _require_real_size(self, array: StoredArray) -> None:
        """Compare the array's claims with the images there are and with one of its files."""
        file = 0
        if array.tokens is not None:
            if array.shape[0] != len(await self.image_ids()):
                raise CacheError(
                    f"{self.where}: {array.path} has {array.shape[0]} rows for "
                    f"{len(await self.image_ids())} images; {REMEDY}"
                )
            if not self._complete:
                done = np.flatnonzero(await self.shards_done())
                if not len(done):
                    return
                file = int(done[0])
        try:
            size = await self._store.getsize(array.file_path(file))
        except (FileNotFoundError, KeyError):
            raise await self._damaged(array, file, "absent") from None
        problem = array.size_problem(file, size)
        if problem is not None:
            raise await self._damaged(array, file, f"it {problem}")

    async def _require_written(self, file: int) -> None:
        done = await self.shards_done()
        if not done[file]:
            raise CacheError(
                f"{self.where} is incomplete: shard {file} is not written yet, "
                f"{int((~done).sum())} of {len(done)} are missing: run vitv1 extract to finish it, "
                "then open it again"
            )

    async def _take_up(self, file: int) -> None:
        """Take the checksums of an unfinished store's shard for its record, if the sum agrees."""
        if self._sums is None or file in self._taken_up:
            return
        paths = array_paths(self.attributes["contents"])
        every = [await self.trusted(path) for path in paths if path.startswith("blocks/")]
        found = await concurrently(self._crcs, ((array, file) for array in every), at_once=8)
        if hashlib.sha256(b"".join(found)).hexdigest() != self._sums[file]:
            await self._require_same()
            raise CacheError(
                f"{self.where}: shard {file} is not as it was written: vitv1 extract writes it anew"
            )
        for array, crcs in zip(every, found, strict=True):
            chunks = array.file_chunks(file)
            assert array.crcs is not None
            array.crcs[chunks.start : chunks.stop] = np.frombuffer(crcs, dtype="<u4")
        self._taken_up.add(file)

    async def _crcs(self, array: StoredArray, file: int) -> bytes:
        """The checksum that every chunk of a file ends in."""
        size, n_chunks = array.stored_chunk_bytes, len(array.file_chunks(file))
        ends = (size * number for number in range(1, n_chunks + 1))
        parts = [(array.file_path(file), RangeByteRequest(e - CRC_BYTES, e)) for e in ends]
        values = await several(self._store, default_buffer_prototype(), parts)
        return b"".join(value.to_bytes() for value in values if value is not None)

    async def _check(
        self, array: StoredArray, file: int, value: Buffer, byte_range: ByteRequest | None
    ) -> None:
        stored = _bytes_of(value)
        chunks, size = array.file_chunks(file), array.stored_chunk_bytes
        if isinstance(byte_range, RangeByteRequest):
            if byte_range.start % size or byte_range.end - byte_range.start != size:
                raise ValueError(f"{byte_range} is no chunk of {array.file_path(file)}")
            number = chunks[byte_range.start // size]
            chunks = range(number, number + 1)
        else:
            only_index = isinstance(byte_range, SuffixByteRequest)
            problem = None if only_index else array.size_problem(file, len(stored))
            if problem is not None:
                raise await self._damaged(array, file, f"it {problem}")
            chunks = range(0) if only_index else chunks
            if stored[len(chunks) * size :].tobytes() != array.index(file):
                raise await self._damaged(array, file, "its index is wrong")
        for position, chunk in enumerate(chunks):
            part = stored[position * size : (position + 1) * size]
            problem = await asyncio.to_thread(array.chunk_problem, chunk, part)
            if problem is not None:
                raise await self._damaged(array, file, problem, array.chunk_rows(chunk))

    async def _damaged(
        self, array: StoredArray, file: int, problem: str, rows: range | None = None
    ) -> CacheError:
        await self._require_same()
        ids = None if array.tokens is None else await self.image_ids()
        fault = fault_in(array, file, problem, ids=ids, rows=rows)
        return CacheError(f"{self.where}: {fault}; {REMEDY}")


def _bytes_of(value: Buffer) -> NDArray[np.uint8]:
    return np.asarray(value.as_numpy_array()).view(np.uint8)
