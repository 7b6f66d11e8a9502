"""What goes into a model that is trained: tokens from the cache, or images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cache import FeatureCache
from stages.preprocessing import Preprocessing
from stages.stimuli import Stimuli

#: Takes image ids, array of shape (n,), and gives what `TunedViT` takes, on the device.
Inputs = Callable[[NDArray[np.int64]], torch.Tensor]


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
class CachedTokens:
    """All tokens of one block, held in memory in their stored dtype.

    Parameters
    ----------
    ids : array of shape (n_images,)
        Image ids, strictly increasing.
    tokens : tensor of shape (n_images, CLS + registers + patches, channel)
        In the order in which the model has them.
    device : str
        Where batches go.
    """

    ids: NDArray[np.int64]
    tokens: torch.Tensor
    device: str

    def __call__(self, ids: NDArray[np.int64]) -> torch.Tensor:
        """Tensor of shape (n_images, CLS + registers + patches, channel)."""
        rows = torch.from_numpy(np.searchsorted(self.ids, ids))
        return self.tokens[rows].to(self.device)


def read_tokens(
    cache: FeatureCache, block: int, ids: NDArray[np.int64], *, device: str
) -> CachedTokens:
    """CLS, register and patch tokens that a block of the cache gave for some images.

    Parameters
    ----------
    ids : array of shape (n_images,)
        Strictly increasing.

    Raises
    ------
    CacheError
        The cache lacks the block, a token kind, or images.
    """
    held = cache.block(block)
    cls = held.read("cls", ids)
    patches = held.read("patches", ids)
    parts = [cls[:, None], patches.reshape(len(ids), -1, patches.shape[-1])]
    if "registers" in cache.kinds:
        parts.insert(1, held.read("registers", ids))
    tokens = torch.from_numpy(np.concatenate(parts, axis=1))
    return CachedTokens(ids=ids, tokens=tokens, device=device)
