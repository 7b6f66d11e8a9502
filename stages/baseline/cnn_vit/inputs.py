"""Tokens beside the images of a recording: held for shuffled batches, and measured once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from cache import UserError
from stages.baseline.cost import PREDICTED
from stages.tokens.cached import CachedTokens, open_planned
from stages.tokens.random_access import Rows, hold
from stages.tokens.tokens import IN_MEMORY
from stages.training.loop import batches

if TYPE_CHECKING:
    from stages.baseline.task import BaselineTask

#: A channel that varies less than this, as a share of the tokens' root mean square, is constant up
#: to the rounding of float16: it is not stretched further.
LEAST_DEVIATION = 1e-3


@dataclass(frozen=True)
class HeldTokens:
    """Tokens of one block for some images, in memory or in a temporary file.

    Parameters
    ----------
    ids : array of shape (n_images,)
        Image ids, increasing.
    shape : tuple of int
        Rows, columns and channels of an image's tokens.
    rows : Rows
        The tokens, in the order of the ids.
    """

    ids: NDArray[np.int64]
    shape: tuple[int, int, int]
    rows: Rows

    def batch(self, ids: NDArray[np.int64], *, device: str = "cpu") -> torch.Tensor:
        """Tokens of some images, tensor of shape (n, row, column, channel), as they are stored."""
        return self.rows.take(np.searchsorted(self.ids, ids)).to(device)

    def measured(self, ids: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and deviation of every channel, tensors of shape (n_channels,), over some images.

        Raises
        ------
        UserError
            Tokens that are not finite.
        """
        once = np.unique(ids)
        total = torch.zeros(self.shape[-1], dtype=torch.float64)
        square = torch.zeros_like(total)
        for part in batches(once, PREDICTED):
            values = self.batch(part).flatten(0, 2).double()
            total += values.sum(dim=0)
            square += values.square().sum(dim=0)
        count = len(once) * self.shape[0] * self.shape[1]
        mean, square = total / count, square / count
        if not square.isfinite().all():
            raise UserError("the tokens are not all finite: extract them again in float32")
        least = LEAST_DEVIATION * square.mean().sqrt()
        deviation = (square - mean.square()).clamp(min=0).sqrt().clamp(min=float(least))
        return mean.float(), torch.where(deviation > 0, deviation, 1).float()


def held_tokens(task: BaselineTask) -> HeldTokens:
    """The tokens of a task's block for all images of its recording, read once.

    Raises
    ------
    CacheError
        Another cache than the task's is there.
    """
    assert task.vit is not None
    ids, vit, limit = task.recording.all_image_ids, task.vit, task.memory_limit
    cache = open_planned(vit.cache_path, key=vit.cache_key, images=ids, sha256=vit.images_sha256)
    source = CachedTokens([cache.block(vit.block)], "patches", ids)
    if task.device == "cpu":
        fits = limit is None or task.needed_memory + source.stored_bytes <= limit
    else:
        fits = limit is None or source.stored_bytes <= IN_MEMORY * limit
    return HeldTokens(ids, source.shape[1:], hold(source, in_memory=fits))
