"""Plain Vision Transformers: patches of the image, with positions, through blocks alike."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar

from stages.backbones.families.family import Family, prefix_tokens

if TYPE_CHECKING:
    import torch

    from cache import TokenKind

#: How names begin of which a ViT's tokens may depend.
_OF_VIT = re.compile(
    r"(blocks|patch_embed|cls_token|pos_embed|reg_token|register_tokens|storage_tokens|norm\w*)\b"
)


class PlainViT(Family):
    """timm's VisionTransformer: position embeddings are added to the patches.

    They are of the image, or of a convolutional stem's last map. Blocks and embeddings alone are
    of it; heads, decoders and further models may stand beside them.
    """

    module, kind = "timm.models.vision_transformer", "VisionTransformer"
    layered = "plain ViTs with or without CLS (DINO, DINOv2, DINOv3, ...) or a convolutional stem"
    plain = True
    pretrainings: ClassVar = {"dinov2": "DINOv2", "dino": "DINO"}

    def decides(self, parameter: str, model: Any) -> bool:
        """See `Family.decides`."""
        return _OF_VIT.match(parameter) is not None

    def tokens(self, model: Any, images: torch.Tensor) -> list[dict[TokenKind, torch.Tensor]]:
        """See `Family.tokens`: the grid is the patch embedding's, overlapping patches included."""
        outputs = model.forward_intermediates(
            images,
            return_prefix_tokens=model.num_prefix_tokens > 0,
            norm=False,
            output_fmt="NLC",
            intermediates_only=True,
        )
        grid = tuple(model.patch_embed.grid_size)
        return [
            {"patches": patches.unflatten(1, grid), **prefix_tokens(model, prefix)}
            for patches, prefix in (o if isinstance(o, tuple) else (o, None) for o in outputs)
        ]

    def embed(self, model: Any, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """See `Family.embed`: tokens are (n_images, CLS + registers + patches, channel)."""
        return model.norm_pre(model._pos_embed(model.patch_embed(images))), None
