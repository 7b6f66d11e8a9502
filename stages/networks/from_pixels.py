"""Rates from raw pixels, as one differentiable module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cache import UserError
from stages.readouts.readout import Output, predicted


class FromPixels(nn.Module):
    """A saved condition from raw images to rates in the recording's units.

    Gradients flow to the pixels. No parameter is trained unless `requires_grad_` says so.

    Parameters
    ----------
    see : callable
        Takes raw images (n_images, row, column) and gives what the network takes.
    network : torch module
        Gives the readouts' linear predictor, tensor of shape (n_images, n_neurons).
    scale : array of shape (n_neurons,)
        What responses were divided by.
    output : str
        Of the readouts; see `Readouts`.
    image_shape : pair of int, optional
        Rows and columns of the raw images it was made for, where they are known.
    """

    scale: torch.Tensor

    def __init__(
        self,
        see: Callable[[torch.Tensor], Any],
        network: nn.Module,
        *,
        scale: NDArray[np.float32],
        output: Output = "elu",
        image_shape: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.see, self.network, self.output = see, network, output
        self.image_shape = image_shape
        self.register_buffer("scale", torch.from_numpy(scale), persistent=False)
        self.requires_grad_(False).eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Rates of shape (n_images, n_neurons) for raw images of shape (n_images, row, column).

        Raises
        ------
        UserError
            Images of another shape than those it was made for.
        """
        if images.ndim != 3:
            raise UserError(
                f"images have shape {tuple(images.shape)}: pass raw grey images of shape (image, "
                "row, column)"
            )
        if self.image_shape is not None and tuple(images.shape[1:]) != self.image_shape:
            found, wanted = (
                " x ".join(map(str, shape)) for shape in (images.shape[1:], self.image_shape)
            )
            raise UserError(
                f"images have {found} pixels (rows x columns), and the recording's own raw images "
                f"{wanted}: pass images of that size, neither cropped nor prepared"
            )
        z = self.network(self.see(images))
        return predicted(z, self.output) * self.scale
