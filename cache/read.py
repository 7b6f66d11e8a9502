"""Rows of one array, read chunk by chunk, several chunks at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    array = (await store.trusted(path)).array
    free = asyncio.Semaphore(CONCURRENT_CHUNKS)

    async def check(file: int) -> None:
        async with free:
            await store.check_index(path, file)

    async def place(read: Read) -> None:
        async with free:
            values = await store.read_chunk(path, read.chunk)
            await asyncio.to_thread(_copy, values, read, out)

    files = np.unique(rows // array.rows_per_file)
    await _all(check(int(file)) for file in files)
    out = np.empty((len(rows), *array.shape[1:]), dtype=array.dtype)
    await _all(place(read) for read in plan_reads(rows, chunk=array.chunk))
    return out


def plan_reads(rows: NDArray[np.intp], *, chunk: int) -> list[Read]:
    """Every chunk that holds a wanted row, once, in increasing order.

    Parameters
    ----------
    rows : array of shape (n,)
        Wanted rows in any order, duplicates allowed.
    chunk : int
        Rows per chunk.
    """
    if not len(rows):
        return []
    order = np.argsort(rows, kind="stable")
    borders = np.flatnonzero(np.diff(rows[order] // chunk)) + 1
    return [
        Read(
            chunk=int(rows[put[0]]) // chunk,
            take=_compact(rows[put] % chunk),
            put=_compact(put),
        )
        for put in np.split(order, borders)
    ]


def _compact(rows: NDArray[np.intp]) -> Rows:
    """Neighbours as a slice, which numpy copies in one go."""
    if (np.diff(rows) == 1).all():
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return rows


async def _all(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Do everything; the first failure ends the rest."""
    try:
        async with asyncio.TaskGroup() as tasks:
            for item in work:
                tasks.create_task(item)
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None


def _copy(values: NDArray[Any], read: Read, out: NDArray[Any]) -> None:
    out[read.put] = values[read.take]
