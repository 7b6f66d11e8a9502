"""Faults of an unfinished cache, and the shards that are then written again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from cache.format.arrays import StoredArray
from cache.format.metadata import planned_arrays
from support.faults import IDS, LAYOUT, SHAPE

ONE, OTHER = "blocks/00/cls/c/0/0", "blocks/00/cls/c/1/0"


def swap(one: Path, other: Path) -> None:
    a, b = one.read_bytes(), other.read_bytes()
    one.write_bytes(b)
    other.write_bytes(a)


def flip(path: Path, place: int = 20) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def planned() -> list[StoredArray]:
    """The arrays of a store as `support.faults` makes them, image and progress first."""
    return list(planned_arrays(SHAPE, LAYOUT, n_images=len(IDS)))


def forge(store: Path, path: str = "blocks/00/cls", shard: int = 0) -> None:
    """A shard of other values whose checksums are right."""
    (array,) = (a for a in planned() if a.path == path)
    values = np.ones((len(array.file_rows(shard)), *array.shape[1:]), np.float16)
    (store / array.file_path(shard)).write_bytes(array.encode(shard, values))


def swap_chunks(store: Path, shard: int = 0) -> None:
    (array,) = (a for a in planned() if a.path == "blocks/01/patches")
    path, size = store / array.file_path(shard), array.stored_chunk_bytes
    data = path.read_bytes()
    path.write_bytes(data[size : 2 * size] + data[:size] + data[2 * size :])


def claim(store: Path) -> None:
    """Progress that claims the shard which was not written, and files for it."""
    _, progress, *tokens = planned()
    for array in tokens:
        path = store / array.file_path(2)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(array.encode(2, np.ones((5, *array.shape[1:]), np.float16)))
    (store / "progress/c/0").write_bytes(progress.encode(0, np.ones(3, np.uint8)))


FAULTS: dict[str, tuple[Callable[[Path], None], list[int]]] = {
    "swapped shards": (lambda store: swap(store / ONE, store / OTHER), [0, 1, 2]),
    "swapped blocks": (
        lambda store: swap(store / ONE, store / ONE.replace("00", "01")),
        [0, 2],
    ),
    "swapped chunks": (swap_chunks, [0, 2]),
    "foreign shard with right checksums": (forge, [0, 2]),
    "flipped bit": (lambda store: flip(store / OTHER), [1, 2]),
    "false claim": (claim, [2]),
}
