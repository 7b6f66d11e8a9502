"""The vision encoder of Gemma 4."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from stages.backbones.families.family import Family

if TYPE_CHECKING:
    import torch

    from cache import TokenKind


class Gemma4(Family):
    """timm's Gemma4VitClassifier, with its encoder; and, as the next, the encoder alone."""

    module, kind = "timm.models.gemma4_vit", "Gemma4VitClassifier"
    asked: ClassVar = {"output_fmt": "NLC"}

    def tokens(self, model: Any, images: torch.Tensor) -> list[dict[TokenKind, torch.Tensor]]:
        """See `Family.tokens`: timm tells the grid from the values of positions, and so no shapes.

        Raises
        ------
        ValueError
            Images that patches do not divide.
        """
        sizes = list(zip(images.shape[2:], model.get_patch_size(), strict=True))
        if any(size % patch for size, patch in sizes):
            raise ValueError(f"patches are of {sizes[0][1]}x{sizes[1][1]} pixels")
        grid = [size // patch for size, patch in sizes]
        outputs = model.forward_intermediates(images, intermediates_only=True, **self.asked)
        return [{"patches": each.unflatten(1, grid)} for each in outputs]


class Gemma4Encoder(Gemma4):
    """timm's Gemma4VitEncoder."""

    kind = "Gemma4VitEncoder"
