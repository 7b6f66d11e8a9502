"""Random access to cached tokens for shuffled batches: in memory, else in a temporary file.

A cache is read chunk by chunk; trials in any order would read a chunk for every trial.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from stages.executors.resources import is_in_memory
from stages.tokens.cached import CachedTokens
from stages.tokens.combined import CombinedTokens
from stages.tokens.tokens import Tokens

#: Share of a disk's free space that one file may take: others write there, too.
SHARE = 0.5

#: Bytes of one read.
AT_ONCE = 2**22


class Rows(Protocol):
    """Rows that were put somewhere, or can be read again."""

    def take(self, rows: NDArray[np.intp]) -> torch.Tensor:
        """Some rows, in the order asked for."""


class Source(Rows, Protocol):
    """Rows of a feature cache."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows, and what each is."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """As they are stored."""

    @property
    def stored_bytes(self) -> int:
        """Bytes of all of them."""

    def steps(self) -> Sequence[NDArray[np.intp]]:
        """Rows to be read together: each chunk of the cache is read in one step."""


def in_any_order(tokens: Tokens) -> Rows:
    """The tokens of all trials; those that are streamed, because memory is short, on a disk."""
    if isinstance(tokens, CachedTokens | CombinedTokens):
        return hold(tokens, in_memory=False)
    return RowsInMemory(tokens.read(0, tokens.shape[0]))


def hold(source: Source, *, in_memory: bool) -> Rows:
    """All rows of a source, read once.

    Where memory is short they go to a temporary file. Where no disk has room for it, they are taken
    from the source itself: a chunk for every row, slow, and the same numbers.
    """
    if in_memory:
        return _filled(RowsInMemory(torch.empty(source.shape, dtype=_torch(source.dtype))), source)
    folder = temporary_folder(source.stored_bytes)
    if folder is None:
        return source
    try:
        return _filled(RowsOnDisk(source.shape, source.dtype, folder), source)
    except OSError:
        return source


class RowsInMemory:
    """Rows of one tensor of shape (n_rows, ...)."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor

    def put(self, rows: NDArray[np.intp], values: NDArray[np.generic]) -> None:
        """Set some rows."""
        self.tensor[torch.from_numpy(rows)] = torch.from_numpy(values)

    def take(self, rows: NDArray[np.intp]) -> torch.Tensor:
        """Some rows, in the order asked for."""
        return self.tensor[torch.from_numpy(rows)]


class RowsOnDisk:
    """Rows in a file without a name: the system deletes it with the process, or before.

    Plain reads and writes: the file's pages are the system's, which gives them up when memory is
    short.

    Parameters
    ----------
    shape : tuple of int
        Rows, and what each is.

    Raises
    ------
    OSError
        A folder that cannot be written to; on writing, a full disk.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], folder: Path) -> None:
        self.shape = shape
        self._dtype = dtype
        self._row_bytes = int(np.prod(shape[1:])) * dtype.itemsize
        self._file = tempfile.TemporaryFile(dir=folder, prefix="vitv1-")  # noqa: SIM115

    def write(self, first: int, values: NDArray[np.generic]) -> None:
        """Set the rows from `first` on."""
        left = np.ascontiguousarray(values, dtype=self._dtype).data.cast("B")
        place = first * self._row_bytes
        while left:
            written = os.pwrite(self._file.fileno(), left, place)
            left, place = left[written:], place + written

    def read(self, first: int, last: int) -> torch.Tensor:
        """The rows first <= row < last."""
        return self.take(np.arange(first, last))

    def put(self, rows: NDArray[np.intp], values: NDArray[np.generic]) -> None:
        """Set some rows."""
        for part in _runs(rows):
            self.write(int(rows[part.start]), values[part])

    def take(self, rows: NDArray[np.intp]) -> torch.Tensor:
        """Some rows, all of which were set, in the order asked for."""
        taken = torch.empty((len(rows), *self.shape[1:]), dtype=_torch(self._dtype))
        values = taken.numpy()
        for part in _runs(rows):
            left = values[part].data.cast("B")
            place = int(rows[part.start]) * self._row_bytes
            while left:
                content = os.pread(self._file.fileno(), min(len(left), AT_ONCE), place)
                if not content:
                    raise OSError("a temporary file of tokens was cut short")
                left[: len(content)] = content
                left, place = left[len(content) :], place + len(content)
        return taken

    def close(self) -> None:
        """Delete the file."""
        self._file.close()


def _filled(rows: RowsInMemory | RowsOnDisk, source: Source) -> Rows:
    for step in source.steps():
        rows.put(step, source.take(step).numpy())
    return rows


def temporary_folder(size: int) -> Path | None:
    """A temporary folder on a disk with room for so many bytes; `TMPDIR` is asked first."""
    for folder in (Path(tempfile.gettempdir()), Path("/var/tmp")):
        on_disk = folder.is_dir() and not is_in_memory(folder)
        if on_disk and size <= SHARE * shutil.disk_usage(folder).free:
            return folder
    return None


def _torch(dtype: np.dtype[Any]) -> torch.dtype:
    return torch.from_numpy(np.empty(0, dtype=dtype)).dtype


def _runs(rows: NDArray[np.intp]) -> Iterator[slice]:
    """Parts of `rows` in which each is one more than the last."""
    borders = [0, *(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), len(rows)]
    for first, last in pairwise(borders):
        if first < last:
            yield slice(first, last)
