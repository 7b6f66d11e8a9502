"""A store that never hands out a byte it cannot vouch for.

It wraps any zarr store, so whatever reads through it is covered: lazy arrays, dask, `Block.read`,
from a directory, a packed file or a URL.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from zarr.abc.buffer import Buffer, BufferPrototype
from zarr.abc.store import ByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.buffer import default_buffer_prototype
from zarr.storage import WrapperStore

from cache.errors import CacheError
from cache.format.arrays import StoredArray
from cache.format.metadata import ROOT, chunk_crcs, parse
from cache.stores.base import file_bytes


@dataclass(frozen=True, kw_only=True)
class Trusted:
    """An array whose zarr.json was checked; `crcs` of shape (n_chunks,) in a finished store."""

    array: StoredArray
    crcs: NDArray[np.uint32] | None


class VerifyingStore(WrapperStore[Store]):
    """Reads of one cache, each compared with what its metadata says.

    In a finished store every zarr.json must have the hash that the root records, and every chunk
    the checksum that its array records. In an unfinished one chunks have only their own checksum,
    and shards that were not complete on opening cannot be read. A chunk that is absent raises;
    plain zarr would return zeros.

    Parameters
    ----------
    store : zarr store
        Where the bytes come from.
    where : str
        Path or URL, for messages.
    root : bytes
        The root's zarr.json.
    attributes : mapping
        The root's attributes, from `cache.format.metadata.read_root`.
    """

    def __init__(
        self, store: Store, *, where: str, root: bytes, attributes: Mapping[str, Any]
    ) -> None:
        super().__init__(store)
        self.where = where
        self.attributes = attributes
        self._documents: dict[str, bytes] = {ROOT: root}
        self._arrays: dict[str, Trusted] = {}
        self._ids: NDArray[np.int64] | None = None
        self._done: NDArray[np.bool_] | None = None

    def _with_store(self, store: Store) -> Self:
        root = self._documents[ROOT]
        return type(self)(store, where=self.where, root=root, attributes=self.attributes)

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Bytes of a zarr.json or of a chunk, or an error that names what is damaged.

        Raises
        ------
        CacheError
            Absent, cut off, changed, or not written yet.
        """
        prototype = prototype or default_buffer_prototype()
        if key == ROOT or key.endswith("/zarr.json"):
            document = await self._document(key)
            return None if document is None else prototype.buffer.from_bytes(document)
        trusted = await self.trusted(key.partition("/c/")[0])
        file = trusted.array.file_of(key)
        if file is None:
            return None
        await self._require_written(trusted.array, file)
        value = await self._store.get(key, prototype, byte_range)
        if value is None:
            raise await self._damaged(trusted.array, trusted.array.file_rows(file), "absent", key)
        await self._check(trusted, file, value, byte_range)
        return value

    async def get_partial_values(
        self,
        prototype: BufferPrototype,
        key_ranges: Iterable[tuple[str, ByteRequest | None]],
    ) -> list[Buffer | None]:
        """Several `get` at once."""
        return await asyncio.gather(*(self.get(key, prototype, part) for key, part in key_ranges))

    async def _get_many(
        self, requests: Iterable[tuple[str, BufferPrototype, ByteRequest | None]]
    ) -> AsyncGenerator[tuple[str, Buffer | None], None]:
        for key, prototype, part in requests:
            yield key, await self.get(key, prototype, part)

    async def read_chunk(self, path: str, chunk: int) -> NDArray[Any]:
        """One chunk's rows, array of shape (rows of the chunk, ...).

        Parameters
        ----------
        path : str
            The array, such as "blocks/04/patches".
        """
        array = (await self.trusted(path)).array
        file = chunk * array.chunk // array.rows_per_file
        first = (chunk - array.file_chunks(file).start) * array.stored_chunk_bytes
        value = await self.get(
            array.file_path(file),
            byte_range=RangeByteRequest(first, first + array.stored_chunk_bytes),
        )
        assert value is not None
        return array.decode(chunk, _bytes_of(value))

    async def check_index(self, path: str, file: int) -> None:
        """Require that a shard's file ends as it must, which no chunk can tell."""
        array = (await self.trusted(path)).array
        if array.shard is not None:
            await self.get(array.file_path(file), byte_range=SuffixByteRequest(array.index_size))

    async def image_ids(self) -> NDArray[np.int64]:
        """Image id of every row, array of shape (n_images,)."""
        if self._ids is None:
            self._ids = (await self.read_chunk("image", 0)).astype(np.int64)
        return self._ids

    async def shards_done(self) -> NDArray[np.bool_]:
        """Which shards are complete, as of the first call, array of shape (n_shards,)."""
        if self._done is None:
            self._done = await self.read_chunk("progress", 0) == 1
        return self._done

    async def trusted(self, path: str) -> Trusted:
        """An array's description, checked.

        Sizes are compared with a real file's before anyone allocates what they claim.
        """
        if path in self._arrays:
            return self._arrays[path]
        folders = path.split("/")
        parents = ["/".join(folders[:depth]) for depth in range(1, len(folders))]
        *_, content = await asyncio.gather(
            *(self._document(f"{place}/zarr.json") for place in [*parents, path])
        )
        if content is None:
            raise CacheError(f"{self.where} holds no {path}: see vitv1 cache info")
        document = parse(content, where=f"{self.where}: {path}/zarr.json")
        array = StoredArray.from_document(path, document, where=self.where)
        complete = bool(self.attributes["complete"])
        crcs = chunk_crcs(array, document, where=self.where) if complete else None
        await self._require_real_size(array)
        self._arrays[path] = Trusted(array=array, crcs=crcs)
        return self._arrays[path]

    async def getsize(self, key: str) -> int:
        """Bytes of one file; unlike the inherited one it does not read the file."""
        return await self._store.getsize(key)

    async def _document(self, key: str) -> bytes | None:
        if key in self._documents:
            return self._documents[key]
        complete = bool(self.attributes["complete"])
        expected = self.attributes["metadata_sha256"].get(key) if complete else None
        if complete and expected is None:
            return None
        content = await file_bytes(self._store, key)
        if content is None and not complete:
            return None
        if content is None or (complete and hashlib.sha256(content).hexdigest() != expected):
            found = "is absent" if content is None else "was changed since it was written"
            raise CacheError(f"{self.where}: {key} {found}; {self._remedy()}")
        self._documents[key] = content
        return content

    async def _require_real_size(self, array: StoredArray) -> None:
        """Compare the array's claims with the images there are and with one of its files."""
        file = 0
        if array.path.startswith("blocks/"):
            if array.shape[0] != len(await self.image_ids()):
                raise CacheError(
                    f"{self.where}: {array.path} has {array.shape[0]} rows for "
                    f"{len(await self.image_ids())} images; {self._remedy()}"
                )
            if not self.attributes["complete"]:
                done = np.flatnonzero(await self.shards_done())
                if not len(done):
                    return
                file = int(done[0])
        key = array.file_path(file)
        try:
            size = await self._store.getsize(key)
        except (FileNotFoundError, KeyError):
            raise await self._damaged(array, array.file_rows(file), "absent", key) from None
        if size != array.file_size(file):
            problem = f"it has {size} bytes, not {array.file_size(file)}"
            raise await self._damaged(array, array.file_rows(file), problem, key)

    async def _require_written(self, array: StoredArray, file: int) -> None:
        if self.attributes["complete"] or not array.path.startswith("blocks/"):
            return
        done = await self.shards_done()
        if not done[file]:
            raise CacheError(
                f"{self.where} is incomplete: shard {file} is not written yet, "
                f"{int((~done).sum())} of {len(done)} are missing: run vitv1 extract to finish it, "
                "then open it again"
            )

    async def _check(
        self, trusted: Trusted, file: int, value: Buffer, byte_range: ByteRequest | None
    ) -> None:
        array, crcs = trusted.array, trusted.crcs
        key = array.file_path(file)
        stored = _bytes_of(value)
        chunks = array.file_chunks(file)
        size = array.stored_chunk_bytes
        if isinstance(byte_range, SuffixByteRequest):
            if stored.tobytes() != array.index(file):
                raise await self._damaged(array, array.file_rows(file), "its index is wrong", key)
            return
        if isinstance(byte_range, RangeByteRequest):
            if byte_range.start % size or byte_range.end - byte_range.start != size:
                raise ValueError(f"{byte_range} is no chunk of {key}")
            number = chunks[byte_range.start // size]
            chunks = range(number, number + 1)
        elif len(stored) != array.file_size(file):
            problem = f"it has {len(stored)} bytes, not {array.file_size(file)}"
            raise await self._damaged(array, array.file_rows(file), problem, key)
        elif stored[len(chunks) * size :].tobytes() != array.index(file):
            raise await self._damaged(array, array.file_rows(file), "its index is wrong", key)
        for position, chunk in enumerate(chunks):
            part = stored[position * size : (position + 1) * size]
            problem_found = await asyncio.to_thread(array.chunk_problem, chunk, part, crcs)
            if problem_found is not None:
                raise await self._damaged(array, array.chunk_rows(chunk), problem_found, key)

    async def _damaged(self, array: StoredArray, rows: range, problem: str, key: str) -> CacheError:
        return CacheError(
            f"{self.where}: {await self._named(array, rows)} ({key}): {problem}; {self._remedy()}"
        )

    async def _named(self, array: StoredArray, rows: range) -> str:
        if not array.path.startswith("blocks/"):
            return array.path
        _, block, kind = array.path.split("/")
        ids = await self.image_ids()
        return f"block {int(block)}, {kind}, images {ids[rows[0]]}..{ids[rows[-1]]}"

    def _remedy(self) -> str:
        return "vitv1 cache verify names every fault, vitv1 cache repair or a new copy mends them"


def _bytes_of(value: Buffer) -> NDArray[np.uint8]:
    return np.asarray(value.as_numpy_array()).view(np.uint8)
