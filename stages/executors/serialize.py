"""Tasks on their way to other processes: large arrays stay in files, only their paths travel.

Every process that loads such a task maps the same files, so that many workers on a machine share
one copy in memory, and a scheduler in between never holds an array.
"""

from __future__ import annotations

import copyreg
import io
import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Arrays of fewer bytes travel within the task.
SMALL = 2**16


class Shipment:
    """The files of one executor's tasks: each large array is written once, whoever has it.

    The workers can read the folder, which is made when the first array is written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()
        # The arrays themselves are kept, too: an id is unique only while its array lives.
        self._written: dict[int, tuple[NDArray[Any], Path]] = {}
        self._one = threading.Lock()

    def pack(self, task: object) -> bytes:
        """A task as bytes, for `pickle.loads` in another process."""
        buffer = io.BytesIO()
        with self._one:
            pickler = pickle.Pickler(buffer, protocol=pickle.HIGHEST_PROTOCOL)
            pickler.dispatch_table = {
                **copyreg.dispatch_table,
                np.ndarray: self._reduced,
                np.memmap: self._reduced,
            }
            pickler.dump(task)
        return buffer.getvalue()

    def _reduced(self, array: NDArray[Any]) -> Any:
        """The path of a large array in its place."""
        if array.nbytes < SMALL or array.dtype.kind not in "biufc":
            return array.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
        if id(array) not in self._written:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / f"{len(self._written)}.npy"
            np.save(path, array, allow_pickle=False)
            self._written[id(array)] = (array, path)
        return _mapped, (str(self._written[id(array)][1]),)


def _mapped(path: str) -> NDArray[Any]:
    """An array in a file, read as it is used; writing to it changes no file."""
    array: NDArray[Any] = np.load(path, mmap_mode="c", allow_pickle=False)
    return array
