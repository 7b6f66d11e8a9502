"""The families of timm's Vision Transformers: a class for each, with all that depends on it.

Names, costs and the layers of parameters are told without torch and timm: only the methods that
are given a model need them.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, cast

if TYPE_CHECKING:
    import torch

    from cache import TokenShape

#: Floating-point operations per second of one core in float32 through the blocks: measured on a
#: shared server.
VIT_RATE = 140e9

#: A timm name: size, pixels of a patch, register tokens or input size, and the pretraining.
_NAME = re.compile(r"vit_(small|base)_patch(\d+)_(?:reg4_|224\.)?([a-z0-9]+)\b")


class Family(ABC):
    """One class of timm's models. It keeps nothing of a model: each method is given it."""

    #: Module and name of the class; the module converts checkpoints, too.
    module: ClassVar[str]
    kind: ClassVar[str]

    #: Pretrainings as timm's names have them, and as people call them.
    pretrainings: ClassVar[Mapping[str, str]] = {}

    #: How the names of the parameters below block 0 begin.
    embeddings: ClassVar[tuple[str, ...]] = (
        "patch_embed.",
        "cls_token",
        "reg_token",
        "pos_embed",
        "norm_pre.",
    )

    def convert(self, state: Mapping[str, Any], model: Any) -> dict[str, Any]:
        """A checkpoint's state dict as the model has it: its names, and its sizes of embeddings."""
        return dict(import_module(self.module).checkpoint_filter_fn(state, model))

    @abstractmethod
    def embed(self, model: Any, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Tokens that enter block 0, and the rotary embedding, where the model has one.

        Preprocessed images (n_images, 3, row, column) become tokens of shape
        (n_images, CLS + registers + patches, channel).
        """

    def rotary(self, model: Any, grid: tuple[int, int]) -> torch.Tensor | None:
        """A copy of the rotary embedding for a grid of patches; None where the model has none."""
        return None

    def rescale_rotary(self, model: Any, mode: bool) -> None:
        """Let a model of `BackboneSettings.rescaling` draw scales at random, or stop it."""
        raise TypeError(f"{self.kind} has no rotary embedding")

    def block(
        self, model: Any, index: int, tokens: torch.Tensor, rotary: torch.Tensor | None
    ) -> torch.Tensor:
        """Tokens after one block, of the shape of those before it."""
        return cast("torch.Tensor", model.blocks[index](tokens))

    def layer(self, parameter: str) -> int:
        """Layer of a parameter by its name: a block, -1 for the embeddings, -2 above the blocks."""
        if parameter.startswith("blocks."):
            return int(parameter.split(".")[1])
        return -1 if parameter.startswith(self.embeddings) else -2


class PlainViT(Family):
    """timm's VisionTransformer: position embeddings are added to the patches."""

    module, kind = "timm.models.vision_transformer", "VisionTransformer"
    pretrainings: ClassVar = {"dinov2": "DINOv2", "dino": "DINO"}

    def embed(self, model: Any, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """See `Family.embed`."""
        return model.norm_pre(model._pos_embed(model.patch_embed(images))), None


class EvaViT(Family):
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


#: All of them. Another family is one more class in this file, and its place here.
FAMILIES: tuple[Family, ...] = (PlainViT(), EvaViT())


def family_of(model: torch.nn.Module) -> Family | None:
    """The family of a timm model; None where no family has it."""
    for family in FAMILIES:
        if isinstance(model, getattr(import_module(family.module), family.kind)):
            return family
    return None


def model_name(label: str) -> str:
    """What people call a timm model, as `BackboneSettings.label` writes it.

    Such as "ViT-S/16 DINOv3 (stride 8, random weights)"; any other name as it is.
    """
    name, *changes = label.split("+")
    said = ", ".join(map(_said, changes))
    return f"{_plain_name(name)} ({said})" if said else _plain_name(name)


def _said(change: str) -> str:
    match = re.fullmatch(r"(patch|stride)(\d+)(-.*)?", change)
    if match is None:
        return "random weights" if change == "random" else f"weights {change}"
    what, pixels, how = match.groups()
    return f"{what} {pixels}" + (how or "").replace("-", ", ", 1).replace("-", " and ")


def _plain_name(name: str) -> str:
    match = _NAME.match(name)
    if match is None:
        return name
    size, patch, pretraining = match.groups()
    known = {key: said for family in FAMILIES for key, said in family.pretrainings.items()}
    return f"ViT-{size[0].upper()}/{patch} {known[pretraining]}" if pretraining in known else name


def block_operations(tokens: TokenShape) -> float:
    """Floating-point operations of one image through one block: attention, and four times as wide.

    All families here have such blocks. All passes over the image are counted.
    """
    n_tokens = tokens.grid[0] * tokens.grid[1] // tokens.passes + 1 + tokens.n_registers
    width = tokens.n_channels
    return tokens.passes * n_tokens * (24.0 * width**2 + 4.0 * n_tokens * width)
