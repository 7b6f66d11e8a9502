"""Faults of a store, told from bytes alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cache.format.arrays import StoredArray
from cache.format.images import HASH_BYTES, HASHES
from cache.format.layout import DIMENSIONS

#: Exponent bits; a float with all of them set is infinite or NaN.
_EXPONENT = {"float16": ("<u2", 0x7C00), "float32": ("<u4", 0x7F800000)}


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that is wrong with a store.

    Parameters
    ----------
    path : str
        File within the store.
    problem : str
    block : int, optional
    array : str, optional
        "patches", "cls", "registers", "image" or "progress".
    images : pair of int, optional
        First and last image id that it touches.
    remedy : str
        "repair" (or a new copy), "extract" where the store is merely unfinished, "delete" for
        what does not belong to it.
    """

    path: str
    problem: str
    block: int | None = None
    array: str | None = None
    images: tuple[int, int] | None = None
    remedy: Literal["repair", "extract", "delete"] = "repair"

    def __str__(self) -> str:
        block = None if self.block is None else f"block {self.block}"
        images = None if self.images is None else f"images {self.images[0]}..{self.images[1]}"
        place = ", ".join(part for part in (block, self.array, images) if part)
        return f"{place} ({self.path}): {self.problem}" if place else f"{self.path}: {self.problem}"


def fault_in(
    array: StoredArray,
    file: int,
    problem: str,
    *,
    ids: NDArray[np.int64] | None,
    rows: range | None = None,
) -> Fault:
    """A fault in a file of chunks, with its block and images named.

    `ids`, array of shape (n_images,), are the images of all rows, where these are known; `rows` are
    those that it touches, all of the file by default.
    """
    path = array.file_path(file)
    if array.tokens is None:
        return Fault(path=path, problem=problem, array=array.path)
    block, kind = array.tokens
    rows = rows or array.file_rows(file)
    images = None
    if ids is not None and rows.stop <= len(ids):
        images = (int(ids[rows[0]]), int(ids[rows[-1]]))
    return Fault(path=path, problem=problem, block=block, array=kind, images=images)


def array_problem(array: StoredArray, attributes: Mapping[str, Any]) -> str | None:
    """Where an array contradicts the root's attributes, or None."""
    if array.tokens is None:
        items = (HASH_BYTES,) if array.path == HASHES else ()
        if array.shape[1:] != items:
            return f"has {array.shape[1:]} values per row, not {items}"
        return None if array.rows_per_shard is None else "is cut into shards"
    _, kind = array.tokens
    declared = attributes["settings"].get("dtype", array.dtype)
    contents = attributes["contents"]
    declared_cut = (contents["images_per_shard"], contents["images_per_chunk"][kind])
    cut = (array.rows_per_shard, array.rows_per_chunk)
    if array.dtype != declared:
        return f"has dtype {array.dtype}, the settings say {declared}"
    if array.dimensions != DIMENSIONS[kind]:
        return f"has axes {', '.join(array.dimensions)}"
    if cut != declared_cut:
        return f"has {cut[0]} images per shard and {cut[1]} per chunk, not {declared_cut}"
    return None


def file_faults(
    array: StoredArray,
    file: int,
    content: NDArray[np.uint8],
    *,
    ids: NDArray[np.int64] | None,
) -> Iterator[Fault]:
    """Everything that is wrong with one file, array of shape (n_bytes,); `ids` as of `fault_in`."""
    problem = array.size_problem(file, len(content))
    if problem is not None:
        yield fault_in(array, file, problem, ids=ids)
        return
    if content[len(content) - array.index_size :].tobytes() != array.index(file):
        yield fault_in(array, file, "its index of chunks is wrong", ids=ids)
    for position, chunk in enumerate(array.file_chunks(file)):
        first = position * array.stored_chunk_bytes
        stored = content[first : first + array.stored_chunk_bytes]
        problem = array.chunk_problem(chunk, stored)
        if problem is None and not _is_finite(array, array.decode(chunk, stored)):
            problem = "holds NaN or infinite tokens"
        if problem is not None:
            yield fault_in(array, file, problem, ids=ids, rows=array.chunk_rows(chunk))


def _is_finite(array: StoredArray, values: NDArray[Any]) -> bool:
    if array.dtype not in _EXPONENT:
        return True
    # numpy's isfinite takes ten times as long on float16.
    integer, mask = _EXPONENT[array.dtype]
    return not bool(((values.view(integer) & mask) == mask).any())
