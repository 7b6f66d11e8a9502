"""Reduced tokens on this machine's disk, where memory does not hold them.

They are fewer bytes than what they were reduced from, and need no reduction when read again.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from io import BufferedRandom
from pathlib import Path

import numpy as np
import torch

from stages.machine import is_in_memory

#: Share of a disk's free space that one file may take: others write there, too.
SHARE = 0.5


class SpilledTokens:
    """Parts of tokens in a file without a name: the system deletes it with the process, or before.

    Plain reads and writes: the file's pages are the system's, which gives them up when memory is
    short.

    Parameters
    ----------
    shape : tuple of int
        Trials, rows, columns, components.
    folder : path, optional
        Where the file is; absent: nowhere, and nothing is ever held.
    """

    def __init__(self, shape: tuple[int, int, int, int], folder: Path | None) -> None:
        self.shape = shape
        self._held: set[int] = set()
        self._file: BufferedRandom | None = None
        if folder is not None:
            with suppress(OSError):
                self._file = tempfile.TemporaryFile(dir=folder, prefix="vitv1-")  # noqa: SIM115

    def holds(self, parts: Iterable[tuple[int, int]]) -> bool:
        """Whether all of these parts were written."""
        return self._held.issuperset(first for first, _ in parts)

    def write(self, first: int, part: torch.Tensor) -> None:
        """Hold a part that begins with trial `first`; where the disk is full, none from now on.

        Parameters
        ----------
        part : tensor of shape (n, n_rows, n_columns, n_components)
            float32.
        """
        if self._file is None:
            return
        try:
            self._file.seek(first * self._trial_bytes)
            self._file.write(part.cpu().contiguous().numpy().data)
            self._file.flush()
        except OSError:
            self._held.clear()
            self._close()
        else:
            self._held.add(first)

    def read(self, first: int, last: int) -> torch.Tensor:
        """Tokens of the trials first <= trial < last, which were written as they are."""
        assert self._file is not None
        values = np.empty((last - first, *self.shape[1:]), dtype=np.float32)
        self._file.seek(first * self._trial_bytes)
        if self._file.readinto(values.data) != values.nbytes:
            raise OSError("a temporary file of reduced tokens was cut short")
        return torch.from_numpy(values)

    @property
    def _trial_bytes(self) -> int:
        return 4 * int(np.prod(self.shape[1:]))

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):  # what it still had to write is not wanted
                file.close()


def spill_folder(size: int) -> Path | None:
    """A temporary folder on a disk with room for so many bytes; `TMPDIR` is asked first."""
    for folder in (Path(tempfile.gettempdir()), Path("/var/tmp")):
        on_disk = folder.is_dir() and not is_in_memory(folder)
        if on_disk and size <= SHARE * shutil.disk_usage(folder).free:
            return folder
    return None
