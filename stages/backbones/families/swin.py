"""Swin Transformers: their blocks are stages, each on a coarser grid than the one before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from stages.backbones.families.family import Family

if TYPE_CHECKING:
    import torch


class Swin(Family):
    """timm's SwinTransformer; tokens are on their grid, (n_images, row, column, channel)."""

    module, kind = "timm.models.swin_transformer", "SwinTransformer"
    layered = "Swin and Swin V2"
    blocks = "layers"

    def embed(self, model: Any, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """See `Family.embed`."""
        return model.patch_embed(images), None

    def resumed(self, tokens: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        """See `Family.resumed`."""
        return cast("torch.Tensor", tokens.unflatten(1, grid))

    def patches(self, model: Any, tokens: torch.Tensor) -> torch.Tensor:
        """See `Family.patches`."""
        return tokens


class SwinV2(Swin):
    """timm's SwinTransformerV2."""

    module, kind = "timm.models.swin_transformer_v2", "SwinTransformerV2"
