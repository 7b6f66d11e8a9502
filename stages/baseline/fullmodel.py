"""The CNN fullmodel: two convolutional layers that all neurons share, and the one readout."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from stages.baseline.depthwise import depthwise_conv2d
from stages.baseline.settings import BaselineSettings, pooled_size
from stages.readouts.readout import initial_readout
from stages.training.descent import Phase
from stages.training.network import ReadoutNetwork


class Core(nn.Module):
    """From images to a feature map.

    A plain convolution, batch normalisation, ELU and 2 x 2 max-pooling; then a depth-separable
    convolution (1 x 1, one kernel per channel, 1 x 1), batch normalisation and ELU. No biases but
    those of the normalisation; "same" padding.

    Parameters
    ----------
    settings : BaselineSettings
        Kernels, channels and momentum.
    seed : int
        Decides the initial convolutions (Xavier normal).
    """

    def __init__(self, settings: BaselineSettings, *, seed: int) -> None:
        super().__init__()
        (first, second), (k1, k2) = settings.channels, settings.kernels
        self.conv = nn.Conv2d(1, first, k1, padding=k1 // 2, bias=False)
        self.norm1 = nn.BatchNorm2d(first, momentum=settings.momentum)
        self.mix_in = nn.Conv2d(first, second, 1, bias=False)
        self.depthwise = nn.Conv2d(second, second, k2, padding=k2 // 2, groups=second, bias=False)
        self.mix_out = nn.Conv2d(second, second, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(second, momentum=settings.momentum)
        self.elu = nn.ELU(inplace=True)
        self.pool = nn.MaxPool2d(2)
        generator = torch.Generator().manual_seed(seed)
        for conv in (self.conv, self.mix_in, self.depthwise, self.mix_out):
            nn.init.xavier_normal_(conv.weight, generator=generator)
        # Measured on a CPU: depthwise convolutions take a third of the time in this layout.
        self.to(memory_format=torch.channels_last)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Feature maps (n_images, row // 2, column // 2, channel) of (n_images, 1, row, column)."""
        x = images.contiguous(memory_format=torch.channels_last)
        x = self.pool(self.elu(self.norm1(self.conv(x))))
        x = self.mix_out(depthwise_conv2d(self.mix_in(x), self.depthwise.weight))
        features: torch.Tensor = self.elu(self.norm2(x))
        return features.permute(0, 2, 3, 1)


class CoreNetwork(ReadoutNetwork):
    """A core with one readout per neuron, and the protocol that trains both.

    Parameters
    ----------
    settings : BaselineSettings
        Kernels, channels and initial scale.
    grid : triple of int
        Rows, columns and channels that the readout reads.
    neurons : array of shape (n_neurons,)
        Who each neuron is: with the seed it decides the readout's initial weights.
    seed : int
        Decides all initial weights.
    """

    def __init__(
        self,
        settings: BaselineSettings,
        *,
        grid: tuple[int, int, int],
        neurons: NDArray[np.int64],
        seed: int,
    ) -> None:
        super().__init__()
        self.core = Core(settings, seed=seed)
        self.readout = initial_readout(
            neurons,
            grid,
            seed=seed,
            space_scale=settings.initial_scale,
            channel_scale=settings.initial_scale,
        )

    def optimizer(self, settings: BaselineSettings, learning_rate: float) -> torch.optim.AdamW:
        """A fresh optimizer of one phase."""
        readout = self.readout
        space = [w for w in (readout.row_weights, readout.column_weights) if w.requires_grad]
        groups = [
            {"params": list(self.core.parameters()), "weight_decay": settings.core_decay},
            {"params": space, "weight_decay": settings.space_decay},
            {"params": [readout.channel_weights], "weight_decay": settings.channel_decay},
            {"params": [readout.bias], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW([g for g in groups if g["params"]], lr=learning_rate)

    def phases(self, settings: BaselineSettings) -> list[Phase]:
        """Phases of falling learning rate."""
        return [
            Phase(epochs=epochs, optimizer=partial(self.optimizer, settings, learning_rate))
            for epochs, learning_rate in zip(settings.epochs, settings.learning_rates, strict=True)
        ]


class FullModel(CoreNetwork):
    """The core and its readouts.

    Parameters
    ----------
    input_size : pair of int
        Rows and columns of the images; other parameters are those of `CoreNetwork`.
    """

    def __init__(
        self,
        settings: BaselineSettings,
        *,
        input_size: tuple[int, int],
        neurons: NDArray[np.int64],
        seed: int,
    ) -> None:
        grid = (*pooled_size(input_size), settings.channels[1])
        super().__init__(settings, grid=grid, neurons=neurons, seed=seed)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The readouts' linear predictor, tensor of shape (n_images, n_neurons)."""
        z: torch.Tensor = self.readout(self.core(images))
        return z
