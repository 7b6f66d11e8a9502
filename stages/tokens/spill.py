"""Spilled tokens: reduced ones on this machine's disk, where memory does not hold them.

They are fewer bytes than what they were reduced from, and need no reduction when read again.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from stages.tokens.random_access import RowsOnDisk


class SpilledTokens:
    """Parts of tokens in a temporary file.

    Parameters
    ----------
    shape : tuple of int
        Trials, rows, columns, components.
    folder : path, optional
        Where the file is; without it nothing is ever held.
    """

    def __init__(self, shape: tuple[int, int, int, int], folder: Path | None) -> None:
        self.shape = shape
        self._held: set[int] = set()
        self._rows: RowsOnDisk | None = None
        if folder is not None:
            with suppress(OSError):
                self._rows = RowsOnDisk(shape, np.dtype(np.float32), folder)

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
        if self._rows is None:
            return
        try:
            self._rows.write(first, part.cpu().numpy())
        except OSError:
            self._held.clear()
            self._rows.close()
            self._rows = None
        else:
            self._held.add(first)

    def read(self, first: int, last: int) -> torch.Tensor:
        """Tokens of the trials first <= trial < last, which were written as they are."""
        assert self._rows is not None
        return self._rows.take(np.arange(first, last))
