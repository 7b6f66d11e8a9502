"""Tasks on their way to other processes: large arrays stay in files, only their paths travel.

Every process that loads such a task maps the same files, so that many workers on a machine share
one copy in memory, and a scheduler in between never holds an array.
"""

from __future__ import annotations

import io
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Arrays of fewer bytes travel within the task.
SMALL = 2**16


class Shipment:
    """The files of one executor's tasks: each large array is written once, whoever has it.

    Parameters
    ----------
    folder : path
        A folder that the workers can read; made when the first array is written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()
        # The arrays themselves are kept, too: an id is unique only while its array lives.
        self._written: dict[int, tuple[NDArray[Any], Path]] = {}
        self._one = threading.Lock()

    def pack(self, task: object) -> bytes:
        """A task as bytes, for `unpack` in another process."""
        buffer = io.BytesIO()
        with self._one:
            _Pickler(buffer, self._path_of).dump(task)
        return buffer.getvalue()

    def _path_of(self, array: NDArray[Any]) -> Path:
        known = self._written.get(id(array))
        if known is not None:
            return known[1]
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{len(self._written)}.npy"
        np.save(path, array, allow_pickle=False)
        self._written[id(array)] = (array, path)
        return path


def unpack(content: bytes) -> Any:
    """A task from the bytes that `Shipment.pack` made of it."""
    return pickle.loads(content)


class _Pickler(pickle.Pickler):
    """Writes the path of a large array in its place."""

    def __init__(self, buffer: io.BytesIO, path_of: Callable[[NDArray[Any]], Path]) -> None:
        super().__init__(buffer, protocol=pickle.HIGHEST_PROTOCOL)
        self._path_of = path_of

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, np.ndarray) and value.nbytes >= SMALL and value.dtype.kind in "biufc":
            return _mapped, (str(self._path_of(value)),)
        return NotImplemented


def _mapped(path: str) -> NDArray[Any]:
    """An array in a file, read as it is used; writing to it changes no file."""
    array: NDArray[Any] = np.load(path, mmap_mode="c", allow_pickle=False)
    return array
