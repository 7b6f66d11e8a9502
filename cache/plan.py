"""Which chunks to read for scattered rows: pure planning."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = slice | NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class Read:
    """One chunk, of which rows `take` go to rows `put` of the result."""

    chunk: int
    take: Rows
    put: Rows


def plan_reads(rows: NDArray[np.intp], *, chunk: int) -> list[Read]:
    """Read every chunk that holds a wanted row, once, in increasing order.

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
