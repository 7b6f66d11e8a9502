"""Rows of one array, read chunk by chunk, several at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.plan import Read, plan_reads
from cache.stores.verifying import VerifyingStore

#: Chunks in flight while reading a block: enough to hide a network's latency.
CONCURRENT_CHUNKS = 8


async def read_rows(store: VerifyingStore, path: str, rows: NDArray[np.intp]) -> NDArray[Any]:
    """Rows of one array in the order asked, some chunks at a time."""
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
