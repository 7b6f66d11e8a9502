"""Which slices to read for scattered rows: pure planning."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Read:
    """One contiguous read: rows first..last, of which `take` go to `put` in the result."""

    first: int
    last: int
    take: NDArray[np.intp]
    put: NDArray[np.intp]


def plan_reads(rows: NDArray[np.intp], *, chunk: int, max_rows: int) -> list[Read]:
    """Cover `rows` by runs of whole chunks.

    A chunk is read at most once, none without a wanted row is read, and no run is longer than
    `max_rows` (or one chunk, if that is longer): memory beyond the result stays bounded.

    Parameters
    ----------
    rows : array of shape (n,)
        Wanted rows in any order, duplicates allowed.
    chunk : int
        Rows per chunk.
    max_rows : int
        Longest run.
    """
    if not len(rows):
        return []
    order = np.argsort(rows, kind="stable")
    ordered = rows[order]
    chunks = ordered // chunk
    per_run = max(1, max_rows // chunk)
    reads: list[Read] = []
    begin = 0
    # A new run starts where a chunk is skipped; runs longer than per_run chunks are cut below.
    for end in [*(np.flatnonzero(np.diff(chunks) > 1) + 1), len(rows)]:
        first_chunk, last_chunk = int(chunks[begin]), int(chunks[end - 1])
        for cut in range(first_chunk, last_chunk + 1, per_run):
            stop = min(cut + per_run, last_chunk + 1)
            inside = slice(
                begin + int(np.searchsorted(chunks[begin:end], cut)),
                begin + int(np.searchsorted(chunks[begin:end], stop)),
            )
            reads.append(
                Read(
                    first=cut * chunk,
                    last=stop * chunk,
                    take=ordered[inside] - cut * chunk,
                    put=order[inside],
                )
            )
        begin = end
    return reads
