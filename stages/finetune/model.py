"""A backbone up to the readout block with the readouts on top, partly unfrozen."""

from __future__ import annotations

import copy
from typing import Literal, Self

import torch
from torch import nn

from cache import UserError
from stages.backbones.backbone import Backbone
from stages.backbones.layers import Layers
from stages.finetune.task import first_tuned_block, starting_block
from stages.readouts.readout import Readout
from stages.training.network import ReadoutNetwork


class TunedViT(ReadoutNetwork):
    """A truncated backbone and the readouts of its last block.

    The backbone is a copy and stays in evaluation mode, whatever is tuned and asked for: no
    dropout, no dropped paths, and so the same forward pass as the frozen one, unless `rescaled`.

    Parameters
    ----------
    backbone : Backbone
        The frozen one; not changed.
    readout : Readout
        Trained on. Weights along an axis of length 1 stay as they are: they are a scale that the
        channel weights have already.
    block : int
        0-based readout block; those above it are dropped.
    last : int or "full"
        Tuned layers, counted back from `block`: the embeddings are the layer below block 0.
    tokens : str
        "patch" or "cls".
    start : str
        What `forward` takes: "images", or the "cache"'s tokens of the block below the first tuned.
    precision : str, optional
        "float32" or "bfloat16" (autocast); the backbone's by default.
    rescaled : bool
        Rotary coordinates are drawn at random in training mode, as the backbone was made to do.

    Raises
    ------
    UserError
        More layers than exist, or a start from the cache where the embeddings or block 0 are tuned.
    """

    rotary: torch.Tensor | None

    def __init__(
        self,
        backbone: Backbone,
        readout: Readout,
        *,
        block: int,
        last: int | Literal["full"],
        tokens: Literal["patch", "cls"] = "patch",
        start: Literal["images", "cache"] = "images",
        precision: str | None = None,
        rescaled: bool = False,
    ) -> None:
        super().__init__()
        first_tuned = first_tuned_block(last, block)
        self.start = starting_block(first_tuned) if start == "cache" else None
        if start == "cache" and self.start is None:
            raise UserError(
                f"last = {last} at block {block} tunes block 0, whose input no cache holds: start "
                "from images"
            )
        self.family, self.block = backbone.family, block
        self.vit = copy.deepcopy(backbone.model)
        self.layers = Layers.of(backbone, self.vit, block=block)
        self.readout = readout
        self.cls = tokens == "cls"
        self.precision = backbone.precision if precision is None else precision
        self.rescaled = rescaled
        for name, parameter in self.vit.named_parameters():
            parameter.requires_grad_(self.family.layer(name) >= first_tuned)
        for weights in (readout.row_weights, readout.column_weights):
            weights.requires_grad_(weights.shape[1] > 1)
        # With a start from the cache the embeddings are frozen, and so this is a constant.
        with torch.no_grad():
            rotary = None if self.start is None else self.layers.rotary()
        self.register_buffer("rotary", rotary, persistent=False)
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Training mode for the readouts; the backbone stays as it is, but where `rescaled`."""
        super().train(mode)
        self.vit.eval()
        if self.rescaled:
            self.family.rescale_rotary(self.vit, mode)
        return self

    def tokens(self, inputs: torch.Tensor) -> torch.Tensor:
        """Tokens of the readout block, (n_images, row, column, channel); CLS on a 1 x 1 grid.

        Parameters
        ----------
        inputs : tensor
            Preprocessed images of shape (n_images, 3, row, column), or cached tokens of shape
            (n_images, CLS + registers + patches, channel).
        """
        with torch.autocast(
            inputs.device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16"
        ):
            if self.start is None:
                return self.layers.of_images(inputs, [self.block], cls=self.cls)
            return self.layers.of_cached(
                inputs.float(), self.start, self.block, rotary=self.rotary, cls=self.cls
            )

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """The readouts' linear predictor, tensor of shape (n_images, n_neurons)."""
        z: torch.Tensor = self.readout(self.tokens(inputs))
        return z

    def backbone_parameters(self) -> list[nn.Parameter]:
        """The tuned layers' parameters."""
        return [p for p in self.vit.parameters() if p.requires_grad]

    def readout_parameters(self) -> list[nn.Parameter]:
        """The readouts' trained parameters."""
        return [p for p in self.readout.parameters() if p.requires_grad]

    def trained(self) -> dict[str, int]:
        """Names of the trained parameters, and how many numbers each holds."""
        return {name: p.numel() for name, p in self.named_parameters() if p.requires_grad}
