"""A backbone with readouts of one or several of its blocks, built from its record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from cache import UserError, differences
from stages.backbones.backbone import Backbone, create_backbone
from stages.backbones.layers import Layers
from stages.backbones.settings import BackboneSettings
from stages.stimuli.preprocessing import Preprocessing, resolve_crop
from stages.stimuli.uniform import uniform


class ViTReadouts(nn.Module):
    """A backbone and its readouts.

    Parameters
    ----------
    backbone : Backbone
        Its blocks above the deepest one that is read are dropped, where layers are defined. Else
        all of it runs.
    readout : module
        Of the concatenated channels of the blocks: readouts, or the identity for the tokens.
    blocks : sequence of int
        0-based, increasing.
    tokens : str
        "patch" or "cls".
    """

    def __init__(
        self, backbone: Backbone, readout: nn.Module, *, blocks: Sequence[int], tokens: str
    ) -> None:
        super().__init__()
        self.precision, self.blocks, self.cls = backbone.precision, tuple(blocks), tokens == "cls"
        self.vit, self.backbone = backbone.model, backbone
        layered = backbone.family.layered is not None
        self.layers = Layers.of(backbone, self.vit, block=max(blocks)) if layered else None
        self.readout = readout

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The linear predictor (n_images, n_neurons) of prepared images (n_images, 3, row, col)."""
        read = self._of_outputs(images) if self.layers is None else self._of_layers(images)
        z: torch.Tensor = self.readout(read)
        return z

    def _of_layers(self, images: torch.Tensor) -> torch.Tensor:
        """Tokens of the blocks that are read, (n_images, row, column, channel), from layers."""
        assert self.layers is not None
        with torch.autocast(
            images.device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16"
        ):
            return self.layers.of_images(images, self.blocks, cls=self.cls)

    def _of_outputs(self, images: torch.Tensor) -> torch.Tensor:
        """The same from all blocks."""
        every = self.backbone.tokens(images)
        if self.cls:
            read = [every[block]["cls"][:, None, None] for block in self.blocks]
        else:
            read = [every[block]["patches"] for block in self.blocks]
        return torch.cat([tokens.float() for tokens in read], dim=-1)


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
