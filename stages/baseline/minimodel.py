"""The CNN minimodels: one small network per neuron, computed as one grouped network for many.

All neurons share a frozen first convolution. Each has its own batch normalisation of it, ReLU and
2 x 2 max-pooling; a 1 x 1 and a depthwise convolution, batch normalisation, ReLU; and its own
readout. Normalising, ReLU and pooling commute up to the sign of a neuron's scale, so the largest
and the smallest value of each 2 x 2 square are taken once, for all neurons.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from stages.baseline.cost import CPU_ELEMENTS
from stages.baseline.depthwise import depthwise_conv2d
from stages.baseline.images import PREDICT_BATCH
from stages.baseline.settings import BaselineSettings, pooled_size
from stages.readouts.readout import initial_readout

#: Added to variances before they are divided by.
VARIANCE_EPSILON = 1e-5

Tensors = dict[str, torch.Tensor]

#: Names of what all minimodels share, and of their own weights, in a file of kept weights.
KERNELS, WEIGHTS = "kernels", "weights"


@dataclass(frozen=True)
class Pooled:
    """The shared first layer's output for a batch.

    Parameters
    ----------
    high, low : tensor of shape (n_images, row, column, channel)
        Largest and smallest value of each 2 x 2 square.
    mean, variance : tensor of shape (channel,)
        Of the batch before pooling; the variance is the biased one.
    count : int
        Values behind each mean.
    """

    high: torch.Tensor
    low: torch.Tensor
    mean: torch.Tensor
    variance: torch.Tensor
    count: int


def first_layer(images: torch.Tensor, kernels: torch.Tensor) -> Pooled:
    """Run the frozen first convolution once for all neurons; pixels may have gradients.

    Parameters
    ----------
    images : tensor of shape (n_images, 1, row, column)
    kernels : tensor of shape (channel, 1, k, k)
    """
    x = images.contiguous(memory_format=torch.channels_last)
    x = functional.conv2d(x, kernels, padding=kernels.shape[-1] // 2)
    variance, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
    high, low = functional.max_pool2d(x, 2), functional.max_pool2d(x.neg(), 2).neg_()
    return Pooled(
        high=high.permute(0, 2, 3, 1),
        low=low.permute(0, 2, 3, 1),
        mean=mean,
        variance=variance,
        count=x.numel() // x.shape[1],
    )


class Minimodels:
    """What every neuron's network looks like; the weights are kept outside.

    Parameters
    ----------
    settings : BaselineSettings
        Kernels, channels, momentum and initial scales.
    input_size : pair of int
        Rows and columns of the images.
    """

    def __init__(self, settings: BaselineSettings, input_size: tuple[int, int]) -> None:
        self.settings, self.momentum = settings, settings.momentum
        self.first_channels, self.channels = settings.channels[0], settings.minimodel.channels
        self.kernel, self.grid = settings.kernels[1], pooled_size(input_size)
        #: How many numbers of each kind a neuron's weights consist of, in their order.
        self.sizes = {
            "norm1_weight": self.first_channels,
            "norm1_bias": self.first_channels,
            "mix": self.channels * self.first_channels,
            "depthwise": self.channels * self.kernel**2,
            "norm2_weight": self.channels,
            "norm2_bias": self.channels,
            "row_weights": self.grid[0],
            "column_weights": self.grid[1],
            "channel_weights": self.channels,
            "bias": 1,
        }

    def named(self, weights: torch.Tensor) -> dict[str, torch.Tensor]:
        """A (n_neurons, n_weights) matrix as one view per kind, of shape (n_neurons, size)."""
        parts = weights.split(list(self.sizes.values()), dim=1)
        return dict(zip(self.sizes, parts, strict=True))

    def initial(self, neurons: NDArray[np.int64], *, seed: int) -> torch.Tensor:
        """Initial weights, tensor of shape (n_neurons, n_weights).

        Xavier-normal convolutions; each neuron's depend on the seed and on who it is alone.
        """
        weights = torch.zeros(len(neurons), sum(self.sizes.values()))
        named = self.named(weights)
        for name in ("norm1_weight", "norm2_weight"):
            named[name].fill_(1)
        shapes = {
            "mix": (self.channels, self.first_channels, 1, 1),
            "depthwise": (self.channels, 1, self.kernel, self.kernel),
        }
        for row, neuron in enumerate(neurons):
            entropy = np.random.SeedSequence([seed, int(neuron), 1]).generate_state(1)
            generator = torch.Generator().manual_seed(int(entropy[0]))
            for name, shape in shapes.items():
                drawn = nn.init.xavier_normal_(torch.empty(shape), generator=generator)
                named[name][row] = drawn.flatten()
        readout = initial_readout(
            neurons,
            (*self.grid, self.channels),
            seed=seed,
            space_scale=self.settings.initial_scale,
            channel_scale=self.settings.minimodel.initial_scale,
        )
        for name in ("row_weights", "column_weights", "channel_weights"):
            named[name].copy_(getattr(readout, name).detach())
        return weights

    def initial_running(self, n_neurons: int) -> dict[str, torch.Tensor]:
        """Running statistics of both normalisations before training."""
        sizes = {"1": self.first_channels, "2": self.channels}
        means = {f"mean{i}": torch.zeros(n_neurons, size) for i, size in sizes.items()}
        return means | {f"variance{i}": torch.ones(n_neurons, size) for i, size in sizes.items()}

    def forward(
        self, weights: torch.Tensor, running: Tensors, pooled: Pooled, *, training: bool
    ) -> torch.Tensor:
        """The readouts' linear predictor, tensor of shape (n_images, n_neurons).

        Parameters
        ----------
        weights : tensor of shape (n_neurons, n_weights)
        running : mapping
            Running statistics of these neurons; updated in place while training.
        training : bool
            Normalise by the batch rather than by the running statistics.
        """
        w = self.named(weights)
        n_neurons, n_images, (rows, columns) = len(weights), len(pooled.high), self.grid
        first = self._first(w, running, pooled, training=training)
        mixed = first @ w["mix"].view(n_neurons, self.channels, -1).transpose(1, 2)
        # (image, neuron and channel, row, column) in channels-last order; no copy for one neuron.
        maps = mixed.view(n_neurons, n_images, rows, columns, self.channels)
        maps = maps.permute(1, 2, 3, 0, 4).flatten(3).permute(0, 3, 1, 2)
        kernels = w["depthwise"].reshape(-1, 1, self.kernel, self.kernel)
        maps = depthwise_conv2d(maps, kernels)
        maps = functional.batch_norm(
            maps,
            running["mean2"].view(-1),
            running["variance2"].view(-1),
            w["norm2_weight"].flatten(),
            w["norm2_bias"].flatten(),
            training=training,
            momentum=self.momentum,
            eps=VARIANCE_EPSILON,
        )
        maps = maps.relu_().permute(0, 2, 3, 1).unflatten(3, (n_neurons, self.channels))
        mixed = maps.flatten(0, 2).transpose(0, 1) @ w["channel_weights"][:, :, None]
        by_row = (
            mixed.view(n_neurons, n_images, rows, columns) * w["column_weights"][:, None, None]
        ).sum(dim=3)
        z: torch.Tensor = (by_row * w["row_weights"][:, None]).sum(dim=2) + w["bias"]
        return z.T

    def _first(
        self, w: Tensors, running: Tensors, pooled: Pooled, *, training: bool
    ) -> torch.Tensor:
        """Normalised, rectified and pooled first layer, (n_neurons, image and place, channel)."""
        if training:
            mean, variance = pooled.mean, pooled.variance
            unbiased = variance * (pooled.count / (pooled.count - 1))
            running["mean1"].lerp_(mean.expand_as(running["mean1"]), self.momentum)
            running["variance1"].lerp_(unbiased.expand_as(running["variance1"]), self.momentum)
        else:
            mean, variance = running["mean1"], running["variance1"]
        scale = w["norm1_weight"] * torch.rsqrt(variance + VARIANCE_EPSILON)
        shift = w["norm1_bias"] - mean * scale
        # A negative scale turns a square's smallest value into its largest.
        high, low = pooled.high.flatten(0, 2), pooled.low.flatten(0, 2)
        extreme = torch.where(scale.detach()[:, None] >= 0, high, low)
        normalised = torch.addcmul(shift[:, None], extreme, scale[:, None])
        return torch.relu_(normalised)


class MinimodelPopulation(nn.Module):
    """Trained minimodels of all neurons.

    Parameters
    ----------
    minimodels : Minimodels
        What each looks like.
    kernels : tensor of shape (channel, 1, k, k)
        The first layer.
    weights : tensor of shape (n_neurons, n_weights)
    running : mapping
        Running statistics of their normalisations, one row per neuron.
    """

    def __init__(
        self,
        minimodels: Minimodels,
        *,
        kernels: torch.Tensor,
        weights: torch.Tensor,
        **running: Any,
    ) -> None:
        super().__init__()
        self.minimodels, self.names = minimodels, tuple(running)
        for name, tensor in {KERNELS: kernels, WEIGHTS: weights, **running}.items():
            self.register_buffer(name, tensor)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The linear predictor, tensor of shape (n_images, n_neurons)."""
        pooled = first_layer(images, self.get_buffer(KERNELS))
        weights, (rows, columns) = self.get_buffer(WEIGHTS), self.minimodels.grid
        step = max(1, CPU_ELEMENTS // (PREDICT_BATCH * rows * columns * self.minimodels.channels))
        parts = []
        for first in range(0, len(weights), step):
            some = slice(first, first + step)
            running: Tensors = {name: self.get_buffer(name)[some] for name in self.names}
            parts.append(self.minimodels.forward(weights[some], running, pooled, training=False))
        return torch.cat(parts, dim=1)
