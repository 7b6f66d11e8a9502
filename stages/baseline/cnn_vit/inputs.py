"""Tokens beside the images of a recording: held for shuffled batches, and measured once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from cache import UserError
from stages.tokens.cached import CachedTokens, open_planned
from stages.tokens.random_access import Rows, hold
from stages.tokens.tokens import IN_MEMORY, partitions

if TYPE_CHECKING:
    from stages.baseline.task import BaselineTask

#: A channel that varies less than this, as a share of the tokens' root mean square, is constant up
#: to the rounding of float16: it is not stretched further.
LEAST_DEVIATION = 1e-3


class HeldTokens:
    """Tokens of a task's block for all images of its recording.

    Parameters
    ----------
    task : BaselineTask
        With tokens of a ViT.

    Raises
    ------
    CacheError
        Another cache than the task's is there.
    """

    def __init__(self, task: BaselineTask) -> None:
        assert task.vit is not None
        self.ids = task.recording.all_image_ids
        cache = open_planned(
            task.vit.cache_path,
            key=task.vit.cache_key,
            images=self.ids,
            sha256=task.vit.images_sha256,
        )
        source = CachedTokens([cache.block(task.vit.block)], "patches", self.ids)
        limit, n_bytes = task.memory_limit, source.stored_bytes
        if task.device == "cpu":
            fits = limit is None or task.needed_memory + n_bytes <= limit
        else:
            fits = limit is None or n_bytes <= IN_MEMORY * limit
        self.shape = source.shape
        self._rows: Rows = hold(source, in_memory=fits)

    def batch(self, ids: NDArray[np.int64], *, device: str = "cpu") -> torch.Tensor:
        """Tokens of some images, tensor of shape (n, row, column, channel), as they are stored."""
        return self._rows.take(np.searchsorted(self.ids, ids)).to(device)

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
        for first, last in partitions((len(once), *self.shape[1:])):
            values = self.batch(once[first:last]).flatten(0, 2).double()
            total += values.sum(dim=0)
            square += values.square().sum(dim=0)
        count = len(once) * self.shape[1] * self.shape[2]
        mean, square = total / count, square / count
        if not square.isfinite().all():
            raise UserError("the tokens are not all finite: extract them again in float32")
        least = LEAST_DEVIATION * square.mean().sqrt()
        deviation = (square - mean.square()).clamp(min=0).sqrt().clamp(min=float(least))
        return mean.float(), torch.where(deviation > 0, deviation, 1).float()
