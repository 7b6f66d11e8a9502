"""The writer of single shards; several processes may write shards of one store at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.arguments import as_array, whole_number
from cache.errors import CacheError
from cache.feature_cache import FeatureCache, open_cache
from cache.format.arrays import StoredArray
from cache.format.images import HELD
from cache.format.layout import DIMENSIONS, TokenKind, token_path
from cache.format.metadata import array_paths, parse
from cache.stores.base import local_document
from cache.write.atomic import replace_files

#: Tokens of one shard: per block, an array per kind with images first.
ShardTokens = list[dict[TokenKind, NDArray[Any]]]


class ShardWriter:
    """Writes the files of shards, each whole and durable, and records nothing.

    Several may work on one store at a time, each on shards of its own, while a `CacheWriter` holds
    the store's lock.

    Parameters
    ----------
    path, key : path, str
        The store, which `write_cache` has made, and its key.
    temporary : path
        Of this writer alone, on the same disk but outside the store.

    Raises
    ------
    CacheError
        As `open_cache`.
    """

    def __init__(self, path: Path, *, key: str, temporary: Path) -> None:
        self.path = path
        self.cache: FeatureCache = open_cache(str(path), key=key)
        self._temporary = temporary
        self._arrays: dict[str, StoredArray] = {}
        if not self.cache.complete:
            names = array_paths(self.cache.store.attributes["contents"])
            self._arrays = {name: self._described(name) for name in names}

    @property
    def dtype(self) -> str:
        """The tokens' stored dtype."""
        return next(array.dtype for array in self._arrays.values() if array.tokens is not None)

    def shard_ids(self, shard: int) -> NDArray[np.int64]:
        """Ids of the images whose tokens are needed to write one shard.

        Not of those at its beginning that the cache held before it grew: they are kept.
        """
        size = self.cache.images_per_shard
        first = shard * size + self.held_images(shard)
        return self.cache.image_ids[first : (shard + 1) * size]

    def held_images(self, shard: int) -> int:
        """Images at the beginning of a shard that the cache held before it grew."""
        size = self.cache.images_per_shard
        number, images = divmod(self.cache.store.attributes.get(HELD, 0), size)
        return images if shard == number else 0

    def write_files(self, shard: int, tokens: ShardTokens) -> None:
        """Write every array of one shard.

        Parameters
        ----------
        shard : int
        tokens : list of dict
            Per block, the arrays of the images of `shard_ids`, images first. Arrays are dropped
            from the dicts as they are written, so that memory is freed along the way.

        Raises
        ------
        OSError
            No space left, or another failure of the disk.
        ValueError
            An array is missing or has another shape.
        UserError
            Something else than numbers, or masked ones.
        """
        shard = whole_number(shard, "shard", least=0)
        given = {token_path(b, kind) for b, arrays in enumerate(tokens) for kind in arrays}
        if given != {name for name, array in self._arrays.items() if array.tokens is not None}:
            raise ValueError(f"shard {shard} needs every array of every block, given {given}")
        self._write(
            (array, shard, self._completed(array, shard, _tokens(arrays.pop(kind), block, kind)))
            for block, arrays in enumerate(tokens)
            for kind in list(arrays)
            for array in [self._arrays[token_path(block, kind)]]
        )

    def _completed(self, array: StoredArray, shard: int, values: NDArray[Any]) -> NDArray[Any]:
        """A shard's rows, those included that its file begins with since before the cache grew."""
        held, size = self.held_images(shard), array.stored_chunk_bytes
        if not held:
            return values
        chunks = array.file_chunks(shard)[: -(-held // array.rows_per_chunk)]
        content = np.fromfile(
            self.path / array.file_path(shard), dtype=np.uint8, count=len(chunks) * size
        )
        rows = []
        for position, chunk in enumerate(chunks):
            stored = content[position * size : (position + 1) * size]
            problem = array.chunk_problem(chunk, stored)
            if problem is not None:
                raise CacheError(
                    f"{self.path}/{array.file_path(shard)}: {problem}: vitv1 cache repair mends "
                    "the cache that is to grow"
                )
            rows.append(array.decode(chunk, stored))
        return np.concatenate([np.concatenate(rows)[:held], values])

    def _described(self, name: str) -> StoredArray:
        file = self.path / name / "zarr.json"
        try:
            document = parse(local_document(file), where=str(file))
        except FileNotFoundError:
            raise CacheError(f"{file} is absent: vitv1 cache repair") from None
        version = self.cache.store.attributes["format_version"]
        return StoredArray.from_document(
            name, document, where=str(self.path), format_version=version
        )

    def _write(self, files: Iterable[tuple[StoredArray, int, NDArray[Any]]]) -> None:
        """Write files of arrays, each given as array, number and values."""

        def encoded() -> Iterator[tuple[str, bytearray]]:
            for array, file, values in files:
                if not (self.path / array.metadata_path).is_file():
                    raise FileNotFoundError(
                        f"{self.path} vanished while it was written; is its disk still mounted?"
                    )
                yield array.file_path(file), array.encode(file, values)

        replace_files(self.path, encoded(), temporary=self._temporary)


def _tokens(values: Any, block: int, kind: TokenKind) -> NDArray[Any]:
    return as_array(values, f"{kind} of block {block}", DIMENSIONS[kind])
