"""The core and the tokens of a frozen ViT under one readout."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.func import functional_call

from stages.baseline.cnn_vit.common_grid import CommonGrid
from stages.baseline.fullmodel import CoreNetwork
from stages.baseline.settings import BaselineSettings
from stages.networks.vit import ViTReadouts


class CnnVit(CoreNetwork):
    """The fullmodel's core beside tokens, and one readout of both.

    The readout's channels are those of the core and then those of the tokens, which have mean 0
    and standard deviation 1 over the training images, as normalised features of the core do.

    Parameters
    ----------
    settings : BaselineSettings
        Kernels, channels and initial scale.
    grid : CommonGrid
        Of the readout.
    mean, deviation : tensor of shape (n_channels,)
        Of the tokens.
    neurons, seed : array of shape (n_neurons,), int
        As in `FullModel`.
    """

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(
        self,
        settings: BaselineSettings,
        *,
        grid: CommonGrid,
        mean: torch.Tensor,
        deviation: torch.Tensor,
        neurons: NDArray[np.int64],
        seed: int,
    ) -> None:
        channels = settings.channels[1] + len(mean)
        super().__init__(settings, grid=(*grid.size, channels), neurons=neurons, seed=seed)
        self.register_buffer("mean", mean.clone())
        self.register_buffer("deviation", deviation.clone())
        for name, (rows, columns) in (("core", grid.core), ("tokens", grid.tokens)):
            for axis, weights in (("rows", rows), ("columns", columns)):
                held = torch.from_numpy(weights.astype(np.float32))
                self.register_buffer(f"{name}_{axis}", held, persistent=False)
        self.n_core = settings.channels[1]

    def forward(self, seen: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """The readouts' linear predictor, tensor of shape (n_images, n_neurons).

        Parameters
        ----------
        seen : pair of tensor
            Images (n_images, 1, row, column) and tokens (n_images, row, column, channel).
        """
        images, tokens = seen
        normal = (tokens.float() - self.mean) / self.deviation
        core, vit = self.readout.channel_weights.tensor_split([self.n_core], dim=1)
        without = torch.zeros_like(self.readout.bias)
        of_core = self._read("core", self.core(images), core, self.readout.bias)
        return of_core + self._read("tokens", normal, vit, without)

    def _read(
        self, name: str, features: torch.Tensor, channels: torch.Tensor, bias: torch.Tensor
    ) -> torch.Tensor:
        """One source's part of the predictor: the readout, brought to the source's own grid."""
        own = self.readout
        part = {
            "row_weights": own.row_weights @ self.get_buffer(f"{name}_rows"),
            "column_weights": own.column_weights @ self.get_buffer(f"{name}_columns"),
            "channel_weights": channels,
            "bias": bias,
        }
        z: torch.Tensor = functional_call(own, part, (features,))
        return z


class CnnVitFromPixels(nn.Module):
    """The same from images as each of both networks sees them."""

    def __init__(self, network: CnnVit, vit: ViTReadouts) -> None:
        super().__init__()
        self.network, self.vit = network, vit

    def forward(self, seen: Sequence[torch.Tensor]) -> torch.Tensor:
        """The linear predictor of grey images, and of the same as the backbone sees them."""
        grey, prepared = seen
        z: torch.Tensor = self.network((grey, self.vit(prepared)))
        return z
