"""Inputs of a model that is trained: tokens from the cache, or images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cache import FeatureCache
from stages.stimuli.preprocessing import Preprocessing
from stages.stimuli.stimuli import Stimuli
from stages.tokens.cached import CachedTokens
from stages.tokens.random_access import Rows


@dataclass(frozen=True, kw_only=True)
class PreparedImages:
    """Images, read and preprocessed batch by batch."""

    stimuli: Stimuli
    preprocessing: Preprocessing
    device: str

    def __call__(self, ids: NDArray[np.int64]) -> torch.Tensor:
        """Tensor of shape (n_images, 3, row, column)."""
        return self.preprocessing(self.stimuli.read(ids), device=self.device)


@dataclass(frozen=True, kw_only=True)
class HeldTokens:
    """All tokens of one block, held in their stored dtype.

    Parameters
    ----------
    ids : array of shape (n_images,)
        Image ids, strictly increasing.
    rows : Rows
        A row per image, of shape (CLS + registers + patches, channel), in the order in which the
        model has them.
    device : str
        Where batches go.
    """

    ids: NDArray[np.int64]
    rows: Rows
    device: str

    def __call__(self, ids: NDArray[np.int64]) -> torch.Tensor:
        """Tensor of shape (n_images, CLS + registers + patches, channel)."""
        return self.rows.take(np.searchsorted(self.ids, ids)).to(self.device)


@dataclass(frozen=True)
class BlockTokens:
    """CLS, register and patch tokens of one block for some images, read when they are needed.

    Parameters
    ----------
    cache : FeatureCache
    block : int
        0-based.
    ids : array of shape (n_images,)
        Image ids, strictly increasing.

    Raises
    ------
    CacheError
        The cache lacks the block, a token kind, or images.
    """

    cache: FeatureCache
    block: int
    ids: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Images, tokens, channels."""
        held = self.cache.block(self.block)
        _, rows, columns, channels = held.array("patches").shape
        registers = held.array("registers").shape[1] if "registers" in self.cache.kinds else 0
        return len(self.ids), 1 + registers + rows * columns, channels

    @property
    def dtype(self) -> np.dtype[Any]:
        """As they are stored."""
        return self._patches.dtype

    @property
    def stored_bytes(self) -> int:
        """Bytes of all of them."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def steps(self) -> list[NDArray[np.intp]]:
        """Rows to be read together, in the order of the cache."""
        return self._patches.steps()

    def take(self, rows: NDArray[np.intp]) -> torch.Tensor:
        """Tokens of some of the images, tensor of shape (n, tokens, channels)."""
        held, ids = self.cache.block(self.block), self.ids[rows]
        patches = held.read("patches", ids)
        parts = [held.read("cls", ids)[:, None], patches.reshape(len(ids), -1, patches.shape[-1])]
        if "registers" in self.cache.kinds:
            parts.insert(1, held.read("registers", ids))
        return torch.from_numpy(np.concatenate(parts, axis=1))

    @property
    def _patches(self) -> CachedTokens:
        return CachedTokens([self.cache.block(self.block)], "patches", self.ids)
