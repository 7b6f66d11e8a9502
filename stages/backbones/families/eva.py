"""Plain Vision Transformers with a rotary embedding, such as DINOv3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, cast

from stages.backbones.families.family import Family
from stages.backbones.families.plain import PlainViT

if TYPE_CHECKING:
    import torch


class EvaViT(PlainViT):
    """timm's Eva: each block may turn queries and keys by a rotary embedding."""

    module, kind = "timm.models.eva", "Eva"
    pretrainings: ClassVar = {"dinov3": "DINOv3"}
    embeddings = (*Family.embeddings, "rope.")

    def embed(self, model: Any, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """See `Family.embed`."""
        tokens, rotary = model._pos_embed(model.patch_embed(images))
        return model.norm_pre(tokens), rotary

    def rotary(self, model: Any, grid: tuple[int, int]) -> torch.Tensor | None:
        """See `Family.rotary`."""
        rope = model.rope
        if rope is None:
            return None
        known = getattr(rope, "feat_shape", None) is not None
        return cast("torch.Tensor", rope.get_embed(None if known else grid)).clone()

    def rescale_rotary(self, model: Any, mode: bool) -> None:
        """See `Family.rescale_rotary`."""
        model.rope.train(mode)

    def block(
        self, model: Any, index: int, tokens: torch.Tensor, rotary: torch.Tensor | None
    ) -> torch.Tensor:
        """See `Family.block`."""
        if rotary is not None and model.rope_mixed:
            # One of its own for each block.
            rotary = rotary[index]
        return cast("torch.Tensor", model.blocks[index](tokens, rope=rotary))
