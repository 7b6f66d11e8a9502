"""Rows of one array, read chunk by chunk, several chunks at a time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.stores.base import concurrently
from cache.stores.verifying import VerifyingStore

#: Chunks in flight while reading a block: enough to hide a network's latency.
CONCURRENT_CHUNKS = 8

Rows = slice | NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class Read:
    """One chunk, of which rows `take` go to rows `put` of the result."""

    chunk: int
    take: Rows
    put: Rows


async def read_rows(store: VerifyingStore, path: str, rows: NDArray[np.intp]) -> NDArray[Any]:
    """Rows of the array at `path`, array of shape (n, ...), in the order asked."""
    array = await store.trusted(path)

    async def place(read: Read) -> None:
        values = await store.read_chunk(path, read.chunk)
        await asyncio.to_thread(_copy, values, read, out)

    files = [(path, int(file)) for file in np.unique(rows // array.rows_per_file)]
    await concurrently(store.check_index, files, at_once=CONCURRENT_CHUNKS)
    out = np.empty((len(rows), *array.shape[1:]), dtype=array.dtype)
    reads = plan_reads(rows, rows_per_chunk=array.rows_per_chunk)
    await concurrently(place, ((read,) for read in reads), at_once=CONCURRENT_CHUNKS)
    return out


def plan_reads(rows: NDArray[np.intp], *, rows_per_chunk: int) -> list[Read]:
    """Every chunk that holds a wanted row, once, in order; `rows`, of shape (n,), may repeat."""
    if not len(rows):
        return []
    order = np.argsort(rows, kind="stable")
    borders = np.flatnonzero(np.diff(rows[order] // rows_per_chunk)) + 1
    return [
        Read(
            chunk=int(rows[put[0]]) // rows_per_chunk,
            take=_compact(rows[put] % rows_per_chunk),
            put=_compact(put),
        )
        for put in np.split(order, borders)
    ]


def _compact(rows: NDArray[np.intp]) -> Rows:
    """Neighbours as a slice, which numpy copies in one go."""
    if (np.diff(rows) == 1).all():
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return rows


def _copy(values: NDArray[Any], read: Read, out: NDArray[Any]) -> None:
    out[read.put] = values[read.take]
