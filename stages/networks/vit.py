"""A backbone with readouts of one or several of its blocks, built from its record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from cache import UserError, differences
from stages.backbones.backbone import Backbone, create_backbone
from stages.backbones.settings import BackboneSettings
from stages.readouts.readout import Readout
from stages.stimuli.preprocessing import Preprocessing, resolve_crop
from stages.stimuli.uniform import uniform


class ViTReadouts(nn.Module):
    """A backbone and its readouts.

    Parameters
    ----------
    backbone : Backbone
        Its blocks above the deepest one that is read are dropped, where layers are defined and one
        pass sees all tokens. Else all of it runs, in all passes.
    readout : Readout
        Of the concatenated channels of the blocks.
    blocks : sequence of int
        0-based, increasing.
    tokens : str
        "patch" or "cls".
    """

    def __init__(
        self, backbone: Backbone, readout: Readout, *, blocks: Sequence[int], tokens: str
    ) -> None:
        super().__init__()
        self.family, self.grid = backbone.family, backbone.grid
        self.precision, self.blocks, self.cls = backbone.precision, tuple(blocks), tokens == "cls"
        self.vit, self.backbone = backbone.model, backbone
        self.layered = backbone.family.layered and backbone.shape.passes == 1
        if self.layered:
            self.vit.blocks = self.vit.blocks[: max(blocks) + 1]
        self.readout = readout

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The linear predictor (n_images, n_neurons) of prepared images (n_images, 3, row, col)."""
        read = self._of_layers(images) if self.layered else self._of_passes(images)
        z: torch.Tensor = self.readout(torch.cat(read, dim=-1))
        return z

    def _of_layers(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Tokens of the blocks that are read, from one pass as far as the deepest of them."""
        read = []
        with torch.autocast(
            images.device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16"
        ):
            x, rotary = self.family.embed(self.vit, images)
            for index in range(len(self.vit.blocks)):
                x = self.family.block(self.vit, index, x, rotary)
                if index in self.blocks:
                    read.append(self._tokens(x))
        return read

    def _of_passes(self, images: torch.Tensor) -> list[torch.Tensor]:
        """The same from all that the backbone yields."""
        every = self.backbone.tokens(images)
        if self.cls:
            return [every[block]["cls"].float()[:, None, None] for block in self.blocks]
        return [every[block]["patches"].float() for block in self.blocks]

    def _tokens(self, x: torch.Tensor) -> torch.Tensor:
        n_prefix = int(self.vit.num_prefix_tokens)
        part, grid = (x[:, :1], (1, 1)) if self.cls else (x[:, n_prefix:], self.grid)
        tokens: torch.Tensor = part.float().unflatten(1, grid)
        return tokens


def recorded_backbone(
    record: Mapping[str, Any], *, weights: str | None, device: str
) -> tuple[Backbone, Callable[[torch.Tensor], torch.Tensor]]:
    """The backbone of a record, and what prepares raw images (n_images, row, column) for it.

    Parameters
    ----------
    record : mapping
        From `backbone_record`.
    weights : str, optional
        File of the backbone's weights, where it has moved since.

    Raises
    ------
    UserError
        Weights that are not those of the record, or what `create_backbone` refuses.
    """
    settings = BackboneSettings(**record["backbone"])
    if weights is not None:
        settings = replace(settings, weights=weights)
    seen = {name: tuple(value) for name, value in record["preprocessing"].items()}
    preprocessing = Preprocessing(**seen)
    backbone = create_backbone(settings, input_size=preprocessing.input_size, device=device)
    differing = differences(
        {"weights": dict(backbone.weights.identity)}, {"weights": dict(record["weights"])}
    )
    if differing:
        raise UserError(
            f"{settings.name}: the weights are not those that the readouts were fitted with "
            f"({'; '.join(differing)}): name their file by weights="
        )

    def see(images: torch.Tensor) -> torch.Tensor:
        crop = resolve_crop(preprocessing.crop, (images.shape[1], images.shape[2]))
        pixels = images.detach().cpu()
        # numpy has no bfloat16.
        stored = (pixels.float() if pixels.dtype == torch.bfloat16 else pixels).numpy()
        flat = uniform(stored, crop=crop, size=preprocessing.input_size)
        return preprocessing.prepared(images.to(torch.float32)[:, None], torch.from_numpy(flat))

    return backbone, see
