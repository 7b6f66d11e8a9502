"""Several backbones with readouts of one block of each, from raw images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from stages.readouts.readout import Readout
from stages.tokens.combination import Combination
from stages.tokens.resampling import together


class CombinedReadouts(nn.Module):
    """The backbones of a combination and its readouts.

    Parameters
    ----------
    combination : Combination
    parts : sequence of (callable, torch module)
        Of each source: what prepares raw images (n_images, row, column) for it, and what makes
        tokens (n_images, row, column, channel) of them.
    readout : Readout
        Of the tokens on the finest grid.
    """

    def __init__(
        self,
        combination: Combination,
        parts: Sequence[tuple[Callable[[torch.Tensor], torch.Tensor], nn.Module]],
        readout: Readout,
    ) -> None:
        super().__init__()
        self.combination, self.readout = combination, readout
        self.see = [see for see, _ in parts]
        self.backbones = nn.ModuleList(backbone for _, backbone in parts)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The linear predictor (n_images, n_neurons) of raw images (n_images, row, column)."""
        pairs = zip(self.see, self.backbones, strict=True)
        tokens = [backbone(see(images)) for see, backbone in pairs]
        z: torch.Tensor = self.readout(together(self.combination, tokens))
        return z
