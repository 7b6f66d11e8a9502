"""Tokens of one block in the order in which a model has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cache import Block, TokenKind
from stages.tokens.cached import CachedTokens
from stages.tokens.tokens import settled


@dataclass(frozen=True)
class BlockTokens:
    """CLS, register and patch tokens of one block for some images, read when they are needed.

    Parameters
    ----------
    block : Block
        Of an open cache.
    ids : array of shape (n_images,)
        Image ids, strictly increasing.
    kinds : sequence of str
        Those that the backbone gives.

    Raises
    ------
    CacheError
        The cache lacks a token kind, or images.
    """

    block: Block
    ids: NDArray[np.int64]
    kinds: Sequence[TokenKind]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Images, tokens, channels."""
        shapes = [self.block.array(kind).shape for kind in self._kinds]
        tokens = sum(int(np.prod(shape[1:-1])) for shape in shapes)
        return len(self.ids), tokens, shapes[0][-1]

    @property
    def dtype(self) -> np.dtype[Any]:
        """As they are stored."""
        return np.dtype(self.block.array("patches").dtype)

    @property
    def stored_bytes(self) -> int:
        """Bytes of all of them."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def steps(self) -> list[NDArray[np.intp]]:
        """Rows to be read together, in the order of the cache."""
        return CachedTokens([self.block], "patches", self.ids).steps()

    def take(self, rows: NDArray[np.intp]) -> torch.Tensor:
        """Tokens of some of the images, tensor of shape (n, tokens, channels)."""
        ids, channels = self.ids[rows], self.shape[-1]
        parts = [self.block.read(kind, ids) for kind in self._kinds]
        tokens = [part.reshape(len(ids), -1, channels) for part in parts]
        return settled(torch.from_numpy(np.concatenate(tokens, axis=1)))

    @property
    def _kinds(self) -> list[TokenKind]:
        ordered: tuple[TokenKind, ...] = ("cls", "registers", "patches")
        return [kind for kind in ordered if kind in self.kinds]
