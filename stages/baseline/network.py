"""A trained CNN with its readouts, from pixels to rates."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import nn

from cache import UserError
from stages.baseline.cost import CPU_ELEMENTS
from stages.baseline.fullmodel import FullModel
from stages.baseline.images import PREDICT_BATCH, GreyPreprocessing
from stages.baseline.minimodel import Minimodels, Tensors, first_layer
from stages.baseline.settings import MINIMODEL, BaselineSettings
from stages.networks.from_pixels import FromPixels
from stages.readouts.load import SavedReadouts
from stages.training.checkpoints import kept_path, restore

#: Names of what all minimodels share, and of their own weights, in a file of kept weights.
KERNELS, WEIGHTS = "kernels", "weights"


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


def cnn_network(
    run: Path, readouts: SavedReadouts, key: str, record: Mapping[str, Any], *, device: str
) -> FromPixels:
    """The network of a CNN; see `stages.stage.Stage.network`."""
    settings = BaselineSettings(**record["settings"])
    see = GreyPreprocessing(
        crop=tuple(record["crop"]),
        size=tuple(record["size"]),
        mean=record["mean"],
        std=record["std"],
    )
    kept = safetensors.torch.load_file(kept_path(run, readouts.condition.slug, key))
    network: nn.Module
    if readouts.condition.model == MINIMODEL:
        if KERNELS not in kept:
            raise UserError(
                f"{readouts.condition.slug}: its file has no first layer; train it again"
            )
        network = MinimodelPopulation(Minimodels(settings, see.size), **kept)
    else:
        neurons = np.arange(len(readouts.bias))
        network = FullModel(settings, input_size=see.size, neurons=neurons, seed=0)
        restore(network, kept)
    return FromPixels(see, network, scale=readouts.scale).to(device)
