"""Cached tokens of several blocks, brought to one grid while they are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cache import FeatureCache
from stages.tokens.cached import CachedTokens, open_planned, reading_steps
from stages.tokens.combination import Combination, CombinedBlock
from stages.tokens.kinds import KINDS
from stages.tokens.resampling import together
from stages.tokens.tokens import settled


@dataclass(frozen=True)
class CombinedTokens:
    """Tokens of a combination; it is read as `CachedTokens` are.

    Parameters
    ----------
    combination : Combination
    parts : sequence of CachedTokens
        Of each source, for the same trials.
    """

    combination: Combination
    parts: Sequence[CachedTokens]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Trials, rows, columns, channels; CLS tokens are on a 1 x 1 grid."""
        rows, columns = self.combination.finest.grid
        return self.parts[0].shape[0], rows, columns, sum(self.combination.channels)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The widest that is stored."""
        return np.result_type(*(part.dtype for part in self.parts))

    @property
    def stored_bytes(self) -> int:
        """Bytes that all of them take in memory, on the one grid."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def steps(self) -> list[NDArray[np.intp]]:
        """Trials to be read together, in the order of the first source's cache."""
        chunk = max(part.chunk for part in self.parts)
        return reading_steps(self.parts[0].rows, chunk=chunk, shape=self.shape)

    def part(self, first: int, last: int) -> CombinedTokens:
        """The trials first <= trial < last."""
        return replace(self, parts=[each.part(first, last) for each in self.parts])

    def read(self, first: int, last: int) -> torch.Tensor:
        """Tokens of the trials first <= trial < last."""
        return self.take(slice(first, last))

    def take(self, trials: slice | NDArray[np.intp]) -> torch.Tensor:
        """Tokens of the given trials."""
        return settled(together(self.combination, [each.take(trials) for each in self.parts]))


def combined(
    combination: Combination, caches: Sequence[FeatureCache], image_ids: NDArray[np.int64]
) -> CombinedTokens:
    """Tokens of a combination for some trials, from the open caches of its sources."""
    kind = KINDS[combination.tokens]
    parts = [
        CachedTokens([cache.block(source.block)], kind, image_ids)
        for source, cache in zip(combination.sources, caches, strict=True)
    ]
    return CombinedTokens(combination, parts)


def open_combined(
    combination: Combination, image_ids: NDArray[np.int64], *, images: NDArray[np.int64]
) -> CombinedTokens:
    """Tokens of a combination that something was planned from, for some trials.

    Parameters
    ----------
    images : array of shape (n_images,)
        Ids of all images that will be read.

    Raises
    ------
    CacheError
        As `open_planned`.
    """

    def opened(source: CombinedBlock) -> FeatureCache:
        assert source.path is not None and source.key is not None
        return open_planned(source.path, key=source.key, images=images, sha256=source.images_sha256)

    return combined(combination, [opened(source) for source in combination.sources], image_ids)
