"""One neuron's minimodel written plainly, to check and to time the grouped ones against."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from stages.baseline.minimodel import Minimodels


class PlainMinimodel(nn.Module):
    """The network of one neuron, first layer included, in torch's default layout.

    Parameters
    ----------
    minimodels : Minimodels
        Sizes.
    kernels : tensor of shape (channel, 1, k, k)
        The frozen first layer.
    weights : tensor of shape (n_weights,)
        The neuron's initial weights, as `Minimodels.initial` gives them.
    """

    def __init__(
        self, minimodels: Minimodels, kernels: torch.Tensor, weights: torch.Tensor
    ) -> None:
        super().__init__()
        first, channels, k = minimodels.first_channels, minimodels.channels, minimodels.kernel
        size = kernels.shape[-1]
        self.conv = nn.Conv2d(1, first, size, padding=size // 2, bias=False)
        self.norm1 = nn.BatchNorm2d(first, momentum=minimodels.momentum)
        self.mix = nn.Conv2d(first, channels, 1, bias=False)
        self.depthwise = nn.Conv2d(
            channels, channels, k, padding=k // 2, groups=channels, bias=False
        )
        self.norm2 = nn.BatchNorm2d(channels, momentum=minimodels.momentum)
        named = {name: w[0].clone() for name, w in minimodels.named(weights[None]).items()}
        self.conv.weight = nn.Parameter(kernels.clone(), requires_grad=False)
        self.mix.weight = nn.Parameter(named["mix"].view(channels, first, 1, 1))
        self.depthwise.weight = nn.Parameter(named["depthwise"].view(channels, 1, k, k))
        self.rows = nn.Parameter(named["row_weights"])
        self.columns = nn.Parameter(named["column_weights"])
        self.channels = nn.Parameter(named["channel_weights"])
        self.bias = nn.Parameter(named["bias"])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The linear predictor, tensor of shape (n_images,)."""
        x = functional.max_pool2d(functional.relu(self.norm1(self.conv(images))), 2)
        x = functional.relu(self.norm2(self.depthwise(self.mix(x))))
        z = torch.einsum("bcyx,c,y,x->b", x, self.channels, self.rows, self.columns)
        return z + self.bias

    def flat(self) -> torch.Tensor:
        """Weights in the order of `Minimodels.sizes`, tensor of shape (n_weights,)."""
        parts = [
            self.norm1.weight,
            self.norm1.bias,
            self.mix.weight,
            self.depthwise.weight,
            self.norm2.weight,
            self.norm2.bias,
            self.rows,
            self.columns,
            self.channels,
            self.bias,
        ]
        return torch.cat([part.detach().flatten() for part in parts])
