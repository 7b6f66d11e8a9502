"""Cached tokens of trials: read from a feature cache when they are needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cache import Block, CacheError, FeatureCache, TokenKind, open_cache
from stages.tokens.tokens import PARTITION_ELEMENTS, settled


def open_planned(
    path: str, *, key: str, images: NDArray[np.int64], sha256: str | None
) -> FeatureCache:
    """The cache that something was planned from, opened again.

    Parameters
    ----------
    images, sha256 : array of shape (n_images,), str or None
        Ids of the images that will be read, and their `FeatureCache.images_digest` of then.

    Raises
    ------
    CacheError
        Another cache is in its place, or one of other pictures.
    """
    cache = open_cache(path, key=key)
    if sha256 is not None and cache.images_digest(images) != sha256:
        raise CacheError(
            f"{cache.name} holds other pictures than before: it was replaced meanwhile; run again"
        )
    return cache


def reading_steps(
    rows: NDArray[np.intp], *, chunk: int, shape: tuple[int, ...]
) -> list[NDArray[np.intp]]:
    """Trials to be read together, in the order of their `rows` in a cache, whole chunks at a time.

    Parameters
    ----------
    shape : tuple of int
        Of all trials' tokens.
    """
    order = np.argsort(rows, kind="stable")
    images = PARTITION_ELEMENTS // int(np.prod(shape[1:]))
    step = max(chunk, images // chunk * chunk)
    return np.split(order, np.flatnonzero(np.diff(rows[order] // step)) + 1)


@dataclass(frozen=True)
class CachedTokens:
    """Tokens of one kind on the concatenated channels of one or more blocks.

    Parameters
    ----------
    blocks : sequence of Block
        Of one cache.
    kind : str
        The array of `stages.tokens.KINDS` that holds them: "patches" or "cls".
    image_ids : array of shape (n_trials,)
        The image of every trial. Trials in the order of the cache's images are read fastest.
    """

    blocks: Sequence[Block]
    kind: TokenKind
    image_ids: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Trials, rows, columns, channels; CLS tokens are on a 1 x 1 grid."""
        stored = [block.array(self.kind).shape for block in self.blocks]
        rows, columns = (1, 1) if len(stored[0]) == 2 else stored[0][1:3]
        return len(self.image_ids), rows, columns, sum(shape[-1] for shape in stored)

    @property
    def dtype(self) -> np.dtype[Any]:
        """As they are stored."""
        return np.dtype(self.blocks[0].array(self.kind).dtype)

    @property
    def stored_bytes(self) -> int:
        """Bytes that all of them take in memory, in their stored dtype."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    @property
    def rows(self) -> NDArray[np.intp]:
        """The row of every trial's image in the cache, array of shape (n_trials,)."""
        return self.blocks[0].cache.rows(self.image_ids)

    @property
    def chunk(self) -> int:
        """Images that the cache holds in a chunk."""
        return int(self.blocks[0].array(self.kind).chunks[0])

    def steps(self) -> list[NDArray[np.intp]]:
        """Trials to be read together, in the order of the cache: each chunk is read in one step."""
        return reading_steps(self.rows, chunk=self.chunk, shape=self.shape)

    def part(self, first: int, last: int) -> CachedTokens:
        """The trials first <= trial < last."""
        return replace(self, image_ids=self.image_ids[first:last])

    def read(self, first: int, last: int) -> torch.Tensor:
        """Tokens of the trials first <= trial < last."""
        return self.take(slice(first, last))

    def take(self, trials: slice | NDArray[np.intp]) -> torch.Tensor:
        """Tokens of the given trials."""
        ids = self.image_ids[trials]
        parts = [block.read(self.kind, ids) for block in self.blocks]
        tokens = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)
        return settled(torch.from_numpy(tokens)).view(len(ids), *self.shape[1:])
