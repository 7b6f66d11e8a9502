"""The place of one array of a store on disk: every file, every size, every offset.

The format leaves nothing open: all follows from shape, dtype and the rows per chunk and shard.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, cast

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from cache.errors import CacheError
from cache.format.layout import TokenKind

#: Each chunk, and each shard's index, ends in its CRC32C.
CRC_BYTES = 4

_DTYPES = ("float16", "float32", "int64", "uint8")
_ABSENT = 2**64 - 1


@dataclass(frozen=True, kw_only=True)
class StoredArray:
    """One array: chunks along the first axis, in files of one shard each.

    Parameters
    ----------
    path : str
        Within the store, such as "blocks/04/patches".
    shape : tuple of int
        Rows (images) first.
    dtype : str
        "float16", "float32", "int64" or "uint8", little-endian.
    dimensions : tuple of str
        Names of the axes.
    rows_per_chunk : int
    rows_per_shard : int, optional
        A multiple of `rows_per_chunk`. Without it the array is one chunk in one file.
    format_version : int
        Of the store: it decides what others read where a file is lost.
    crcs : array of shape (n_chunks,), optional
        The record of every chunk's checksum; an unfinished store has none.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    dimensions: tuple[str, ...]
    rows_per_chunk: int
    rows_per_shard: int | None
    format_version: int = 1
    crcs: NDArray[np.uint32] | None = field(default=None, compare=False)

    @property
    def tokens(self) -> tuple[int, TokenKind] | None:
        """Block and kind of the tokens that it holds; None for `image` and `progress`."""
        folder, *place = self.path.split("/")
        return (int(place[0]), cast(TokenKind, place[1])) if folder == "blocks" else None

    @property
    def stored_chunk_bytes(self) -> int:
        """Bytes of one chunk in its file, checksum included."""
        values = self.rows_per_chunk * prod(self.shape[1:])
        return values * np.dtype(self.dtype).itemsize + CRC_BYTES

    @property
    def n_chunks(self) -> int:
        """Chunks that hold a row."""
        return -(-self.shape[0] // self.rows_per_chunk)

    @property
    def n_files(self) -> int:
        """Shards, each a file."""
        return -(-self.shape[0] // self.rows_per_file)

    @property
    def rows_per_file(self) -> int:
        """Rows of every file but the last."""
        return self.rows_per_shard or self.rows_per_chunk

    @property
    def metadata_path(self) -> str:
        """The array's zarr.json within the store."""
        return f"{self.path}/zarr.json"

    def file_path(self, file: int) -> str:
        """A shard's file within the store, such as "blocks/04/patches/c/3/0/0/0"."""
        return f"{self.path}/c/{file}" + "/0" * (len(self.shape) - 1)

    def file_of(self, path: str) -> int | None:
        """The shard that a file path within the store names, or None."""
        head, _, rest = path.partition("/c/")
        number = rest.partition("/")[0]
        if head != self.path or not number.isdecimal():
            return None
        file = int(number)
        return file if file < self.n_files and self.file_path(file) == path else None

    def file_rows(self, file: int) -> range:
        """Rows of one shard."""
        first = file * self.rows_per_file
        return range(first, min(first + self.rows_per_file, self.shape[0]))

    def file_chunks(self, file: int) -> range:
        """Numbers, over the whole array, of one shard's chunks; they lie in this order."""
        rows = self.file_rows(file)
        return range(rows.start // self.rows_per_chunk, -(-rows.stop // self.rows_per_chunk))

    def chunk_rows(self, chunk: int) -> range:
        """Rows of one chunk; what a last chunk holds beyond them is zero."""
        first = chunk * self.rows_per_chunk
        return range(first, min(first + self.rows_per_chunk, self.shape[0]))

    def file_size(self, file: int) -> int:
        """Exact size in bytes: the chunks without gaps, then the index."""
        return len(self.file_chunks(file)) * self.stored_chunk_bytes + self.index_size

    def size_problem(self, file: int, size: int) -> str | None:
        """What to say of a file of `size` bytes, or None where it must have as many."""
        expected = self.file_size(file)
        return None if size == expected else f"has {size} bytes, not {expected}"

    @property
    def n_bytes(self) -> int:
        """Bytes of all files."""
        return sum(self.file_size(file) for file in range(self.n_files))

    @property
    def index_size(self) -> int:
        """Bytes of a shard's index, its checksum included; 0 for an array of one chunk."""
        if self.rows_per_shard is None:
            return 0
        return 16 * (self.rows_per_shard // self.rows_per_chunk) + CRC_BYTES

    def index(self, file: int) -> bytes:
        """The only index a shard can have: offset and length per chunk, and their checksum."""
        if self.rows_per_shard is None:
            return b""
        entries = np.full((self.rows_per_shard // self.rows_per_chunk, 2), _ABSENT, dtype="<u8")
        present = len(self.file_chunks(file))
        entries[:present, 0] = np.arange(present) * self.stored_chunk_bytes
        entries[:present, 1] = self.stored_chunk_bytes
        content = entries.tobytes()
        return content + _crc(np.frombuffer(content, dtype=np.uint8)).tobytes()

    def encode(self, file: int, values: NDArray[Any]) -> bytearray:
        """The content of one shard's file.

        Parameters
        ----------
        values : array of shape (rows of the shard, ...)
            Converted to the array's dtype; another shape is a `ValueError`.
        """
        expected = (len(self.file_rows(file)), *self.shape[1:])
        if values.shape != expected:
            raise ValueError(f"{self.file_path(file)}: values of {values.shape}, not {expected}")
        content = bytearray(self.file_size(file))
        whole = np.frombuffer(content, dtype=np.uint8)
        little = np.dtype(self.dtype).newbyteorder("<")
        for number in range(len(self.file_chunks(file))):
            rows = values[number * self.rows_per_chunk : (number + 1) * self.rows_per_chunk]
            first = number * self.stored_chunk_bytes
            stored = whole[first : first + self.stored_chunk_bytes]
            tokens = np.ascontiguousarray(rows, dtype=little).reshape(-1).view(np.uint8)
            stored[: len(tokens)] = tokens
            stored[-CRC_BYTES:] = _crc(stored[:-CRC_BYTES])
        if self.index_size:
            whole[-self.index_size :] = np.frombuffer(self.index(file), dtype=np.uint8)
        return content

    def chunk_problem(self, chunk: int, stored: NDArray[np.uint8]) -> str | None:
        """What is wrong with a stored chunk, array of shape (n_bytes,), or None."""
        if len(stored) != self.stored_chunk_bytes:
            return f"cut off after {len(stored)} of {self.stored_chunk_bytes} bytes"
        if (_crc(stored[:-CRC_BYTES]) != stored[-CRC_BYTES:]).any():
            return "its bytes do not match their checksum"
        if self.crcs is not None and stored[-CRC_BYTES:].view("<u4")[0] != self.crcs[chunk]:
            return "its bytes belong elsewhere: the checksum is not the one on record"
        return None

    def decode(self, chunk: int, stored: NDArray[np.uint8]) -> NDArray[Any]:
        """A stored chunk's rows, array of shape (rows of the chunk, ...), without copying."""
        values = stored[:-CRC_BYTES].view(np.dtype(self.dtype).newbyteorder("<"))
        return values.reshape(self.rows_per_chunk, *self.shape[1:])[: len(self.chunk_rows(chunk))]

    def document(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """The array's zarr.json, which zarr and xarray read."""
        codecs: list[dict[str, Any]] = [_bytes_codec(self.dtype), {"name": "crc32c"}]
        if self.rows_per_shard is not None:
            codecs = [
                {
                    "name": "sharding_indexed",
                    "configuration": {
                        "chunk_shape": [self.rows_per_chunk, *self.shape[1:]],
                        "codecs": codecs,
                        "index_codecs": [_bytes_codec("uint64"), {"name": "crc32c"}],
                        "index_location": "end",
                    },
                }
            ]
        return {
            "zarr_format": 3,
            "node_type": "array",
            "shape": list(self.shape),
            "data_type": self.dtype,
            "chunk_grid": {
                "name": "regular",
                "configuration": {"chunk_shape": [self.rows_per_file, *self.shape[1:]]},
            },
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": self._fill_value,
            "codecs": codecs,
            "attributes": dict(attributes),
            "dimension_names": list(self.dimensions),
            "storage_transformers": [],
        }

    @property
    def _fill_value(self) -> float | str:
        """What Zarr gives for an absent chunk: from format 2 on neither a token nor an id."""
        if self.dtype.startswith("float"):
            return 0.0 if self.format_version == 1 else "NaN"
        return -1 if self.dtype == "int64" and self.format_version > 1 else 0

    @classmethod
    def from_document(
        cls, path: str, document: Mapping[str, Any], *, where: str, format_version: int
    ) -> StoredArray:
        """The array that a zarr.json describes, or `CacheError` where the format says otherwise."""
        try:
            outer = _integers(document["chunk_grid"]["configuration"]["chunk_shape"])
            first = document["codecs"][0]
            sharded = first["name"] == "sharding_indexed"
            inner = _integers(first["configuration"]["chunk_shape"]) if sharded else outer
            array = cls(
                path=path,
                shape=_integers(document["shape"]),
                dtype=str(document["data_type"]),
                dimensions=tuple(str(name) for name in document["dimension_names"]),
                rows_per_chunk=inner[0],
                rows_per_shard=outer[0] if sharded else None,
                format_version=format_version,
            )
            if array._is_sane() and document == array.document(document["attributes"]):
                return array
        except (KeyError, TypeError, ValueError, IndexError, AttributeError):
            pass
        raise CacheError(
            f"{where}: {path}/zarr.json does not describe an array of cache format "
            f"{format_version}: vitv1 cache repair, or fetch it again"
        )

    def _is_sane(self) -> bool:
        rows = self.shape[0]
        shard = self.rows_per_shard
        chunks_fit = (
            self.rows_per_chunk == rows
            if shard is None
            else shard % self.rows_per_chunk == 0 and shard < 2 * rows
        )
        return (
            min(*self.shape, self.rows_per_chunk) > 0
            and chunks_fit
            and self.dtype in _DTYPES
            and len(self.dimensions) == len(self.shape)
        )


def _bytes_codec(dtype: str) -> dict[str, Any]:
    if np.dtype(dtype).itemsize == 1:
        return {"name": "bytes"}
    return {"name": "bytes", "configuration": {"endian": "little"}}


def _crc(content: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.array([google_crc32c.value(content)], dtype="<u4").view(np.uint8)


def _integers(values: Sequence[Any]) -> tuple[int, ...]:
    if not all(type(value) is int for value in values):
        raise TypeError("sizes are integers")
    return tuple(values)
