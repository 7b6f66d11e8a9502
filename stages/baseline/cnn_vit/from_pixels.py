"""A trained core beside its backbone, from raw pixels to rates, built from the record of both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from stages.baseline.cnn_vit.common_grid import CommonGrid, common_grid
from stages.baseline.cnn_vit.network import CnnVit, CnnVitFromPixels
from stages.baseline.settings import BaselineSettings
from stages.networks.from_pixels import FromPixels
from stages.networks.vit import ViTReadouts, recorded_backbone
from stages.training.checkpoints import Weights, restore


def recorded_grid(record: Mapping[str, Any]) -> CommonGrid:
    """The grid of the readout."""
    rows, columns = record["image_shape"]
    return common_grid(
        image_shape=(rows, columns),
        crop=tuple(record["crop"]),
        size=tuple(record["size"]),
        tokens=record["vit"],
    )


def cnn_vit_from_pixels(
    record: Mapping[str, Any],
    settings: BaselineSettings,
    kept: Weights,
    grey: Callable[[torch.Tensor], torch.Tensor],
    *,
    scale: NDArray[np.float32],
    weights: str | None,
    device: str,
) -> FromPixels:
    """Both networks and the readout, which takes the backbone's tokens in float32.

    Parameters
    ----------
    record : mapping
        What was saved of both.
    kept : mapping
        Trained weights.
    grey : callable
        Takes raw images and gives what the core sees.
    scale : array of shape (n_neurons,)
        What responses were divided by.
    weights : str, optional
        File of the backbone's weights, where it has moved since.

    Raises
    ------
    UserError
        Weights of the backbone that are not at hand, or are others.
    """
    backbone, prepare = recorded_backbone(record["vit"], weights=weights, device=device)
    network = CnnVit(
        settings,
        grid=recorded_grid(record),
        mean=kept["mean"],
        deviation=kept["deviation"],
        neurons=np.arange(len(scale)),
        seed=0,
    )
    restore(network, kept)
    vit = ViTReadouts(backbone, nn.Identity(), blocks=[record["vit"]["block"]], tokens="patch")

    def see(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return grey(images), prepare(images)

    return FromPixels(see, CnnVitFromPixels(network, vit), scale=scale).to(device)
