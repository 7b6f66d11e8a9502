"""Faults of a store, told from bytes alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cache.format.arrays import StoredArray
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
        What is wrong.
    block : int, optional
        Block, where the fault is in one.
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
        parts = [
            "" if self.block is None else f"block {self.block}",
            self.array or "",
            "" if self.images is None else f"images {self.images[0]}..{self.images[1]}",
        ]
        place = ", ".join(part for part in parts if part)
        return f"{place} ({self.path}): {self.problem}" if place else f"{self.path}: {self.problem}"


def fault_in(
    array: StoredArray,
    problem: str,
    *,
    path: str,
    rows: range | None = None,
    ids: NDArray[np.int64] | None = None,
) -> Fault:
    """A fault in an array, with its block and images named.

    Parameters
    ----------
    rows : range, optional
        Rows that it touches; all by default.
    ids : array of shape (n_images,), optional
        Image id of every row, where they are known.
    """
    if array.tokens is None:
        return Fault(path=path, problem=problem, array=array.path)
    block, kind = array.tokens
    rows = range(array.shape[0]) if rows is None else rows
    known = ids is not None and rows.stop <= len(ids)
    images = (int(ids[rows[0]]), int(ids[rows[-1]])) if ids is not None and known else None
    return Fault(path=path, problem=problem, block=block, array=kind, images=images)


def array_problem(array: StoredArray, attributes: Mapping[str, Any]) -> str | None:
    """Where an array contradicts the root's attributes, or None."""
    if array.tokens is None:
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
    crcs: NDArray[np.uint32] | None,
    ids: NDArray[np.int64] | None,
) -> Iterator[Fault]:
    """Everything that is wrong with one file of chunks.

    Parameters
    ----------
    content : array of shape (n_bytes,)
        The whole file.
    crcs : array of shape (n_chunks,), optional
        The array's record of its chunks' checksums; an unfinished store has none.
    ids : array of shape (n_images,), optional
        Image id of every row, for messages.
    """
    path = array.file_path(file)
    if len(content) != array.file_size(file):
        problem = size_problem(array, file, len(content))
        yield fault_in(array, problem, path=path, rows=array.file_rows(file), ids=ids)
        return
    if content[len(content) - array.index_size :].tobytes() != array.index(file):
        problem = "its index of chunks is wrong"
        yield fault_in(array, problem, path=path, rows=array.file_rows(file), ids=ids)
    for position, chunk in enumerate(array.file_chunks(file)):
        first = position * array.stored_chunk_bytes
        stored = content[first : first + array.stored_chunk_bytes]
        found = array.chunk_problem(chunk, stored, crcs)
        if found is None and not _is_finite(array, array.decode(chunk, stored)):
            found = "holds NaN or infinite tokens"
        if found is not None:
            yield fault_in(array, found, path=path, rows=array.chunk_rows(chunk), ids=ids)


def size_problem(array: StoredArray, file: int, size: int) -> str:
    """What to say of a file of another size than it must have."""
    return f"has {size} bytes, not {array.file_size(file)}"


def _is_finite(array: StoredArray, values: NDArray[Any]) -> bool:
    if array.dtype not in _EXPONENT:
        return True
    # numpy's isfinite takes ten times as long on float16.
    integer, mask = _EXPONENT[array.dtype]
    return not bool(((values.view(integer) & mask) == mask).any())
