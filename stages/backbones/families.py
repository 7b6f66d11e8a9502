"""The families of timm's backbones: a class for each, with all that depends on it.

Names, costs and the layers of parameters are told without torch and timm: only the methods that
are given a model need them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import import_module
from inspect import signature
from typing import TYPE_CHECKING, Any, ClassVar, cast

if TYPE_CHECKING:
    import torch

    from cache import TokenKind, TokenShape

#: Floating-point operations per second of one core in float32 through the blocks: measured on a
#: shared server.
VIT_RATE = 140e9

#: A timm name: size, pixels of a patch, register tokens or input size, and the pretraining.
_NAME = re.compile(r"vit_(small|base)_patch(\d+)_(?:reg4_|224\.)?([a-z0-9]+)\b")


#: How the names of timm's plain ViTs begin, as far as they tell.
PLAIN_NAME = re.compile(r"(test_)?(vit_(?!s?relpos)|deit3?_|flexivit_|eva(02)?_)")

#: How names begin of which a ViT's tokens may depend.
_OF_VIT = re.compile(
    r"(blocks|patch_embed|cls_token|pos_embed|reg_token|register_tokens|storage_tokens|norm\w*)\b"
)
#: How the names of classifiers begin, and how those of constants end.
_HEADS = ("head", "fc.", "classifier", "pre_logits", "mask_token")
_CONSTANTS = (
    *("relative_position_index", "relative_coords_table", "attn_mask"),
    *("attention_bias_idxs", "num_batches_tracked"),
)


class Family:
    """One class of timm's models. It keeps nothing of a model: each method is given it.

    A block is one of the intermediate outputs that timm counts.
    """

    #: Module and name of the class.
    module: ClassVar[str]
    kind: ClassVar[str]

    #: Whether layers are defined, so that the last of them can be tuned.
    layered: ClassVar[bool] = False

    #: What else timm's `forward_intermediates` is told.
    asked: ClassVar[Mapping[str, Any]] = {}

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

    def has(self, model: torch.nn.Module) -> bool:
        """Whether a model is of this family."""
        return isinstance(model, getattr(import_module(self.module), self.kind))

    def convert(self, state: Mapping[str, Any], model: Any) -> dict[str, Any]:
        """A checkpoint's state dict as the model has it: its names, and its sizes of embeddings."""
        module = import_module(getattr(self, "module", type(model).__module__))
        convert = getattr(module, "checkpoint_filter_fn", None) or getattr(
            module, "_filter_fn", None
        )
        return dict(state if convert is None else _converted(convert, state, model))

    def decides(self, parameter: str, model: Any) -> bool:
        """Whether tokens may depend on what a checkpoint calls by this name.

        Others are of classifiers, and constants that each model computes.
        """
        heads = model.pretrained_cfg.get("classifier") or ()
        heads = (heads,) if isinstance(heads, str) else tuple(heads)
        of_head = parameter.startswith((*heads, *_HEADS))
        return not (of_head or parameter.endswith(_CONSTANTS))

    def tokens(self, model: Any, images: torch.Tensor) -> list[dict[TokenKind, torch.Tensor]]:
        """Tokens of every block from one pass over preprocessed images.

        Per block: `patches` of shape (n_images, row, column, channel); and `cls` (n_images,
        channel) and `registers` (n_images, register, channel), where the model has any.
        """
        known = signature(model.forward_intermediates).parameters
        with_prefix = "return_prefix_tokens" in known and model.num_prefix_tokens > 0
        prefix = {"return_prefix_tokens": True} if with_prefix else {}
        outputs = model.forward_intermediates(
            images, norm=False, intermediates_only=True, **prefix, **self.asked
        )
        return [
            {"patches": each.permute(0, 2, 3, 1), **prefix_tokens(model, before)}
            for each, before in (o if with_prefix else (o, None) for o in outputs)
        ]

    def embed(self, model: Any, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Tokens that enter block 0, and the rotary embedding, where the model has one.

        Preprocessed images (n_images, 3, row, column) become tokens of shape
        (n_images, CLS + registers + patches, channel).
        """
        raise TypeError(f"{type(model).__name__} has no layers that are defined")

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
    layered = True
    pretrainings: ClassVar = {"dinov2": "DINOv2", "dino": "DINO"}

    def decides(self, parameter: str, model: Any) -> bool:
        """See `Family.decides`: heads, decoders and further models may stand beside a ViT."""
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
        """See `Family.embed`."""
        return model.norm_pre(model._pos_embed(model.patch_embed(images))), None


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


class Hiera(Family):
    """timm's Hiera: its intermediate outputs are those of blocks, not of stages alone."""

    module, kind = "timm.models.hiera", "Hiera"
    asked: ClassVar = {"coarse": False}


class HieraDet(Hiera):
    """The Hiera of SAM 2."""

    module, kind = "timm.models.hieradet_sam2", "HieraDet"


class OtherBackbone(Family):
    """Any other model of timm with intermediate outputs, with or without stages.

    Such as XCiT, BEiT and CaiT; Swin, MViT and PVT; ConvNeXt, ResNet and VGG; CoAtNet, MaxViT,
    EfficientFormer, FastViT and LeViT.
    """

    def has(self, model: torch.nn.Module) -> bool:
        """See `Family.has`."""
        return hasattr(model, "forward_intermediates")


#: All of them. Another family is one more class in this file, and its place here.
FAMILIES: tuple[Family, ...] = (PlainViT(), EvaViT(), Hiera(), HieraDet(), OtherBackbone())


def family_of(model: torch.nn.Module) -> Family | None:
    """The first family that has a timm model; None where none has it."""
    return next((family for family in FAMILIES if family.has(model)), None)


def prefix_tokens(model: Any, prefix: torch.Tensor | None) -> dict[TokenKind, torch.Tensor]:
    """CLS and registers (all other tokens without a place) of (n_images, token, channel)."""
    if prefix is None:
        return {}
    # NaFlexViT has its embeddings apart.
    first = 0 if getattr(getattr(model, "embeds", model), "cls_token", None) is None else 1
    found: dict[TokenKind, torch.Tensor] = {"cls": prefix[:, 0]} if first else {}
    if prefix.shape[1] > first:
        found["registers"] = prefix[:, first:]
    return found


def _converted(convert: Any, state: Mapping[str, Any], model: Any) -> Mapping[str, Any]:
    takes_model = len(signature(convert).parameters) > 1
    converted: Mapping[str, Any] = convert(state, model) if takes_model else convert(state)
    return converted


def image_operations(tokens: TokenShape) -> float:
    """Those of one image through all blocks."""
    return sum(block_operations(tokens, block) for block in range(tokens.n_blocks))


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


def block_operations(tokens: TokenShape, block: int = 0) -> float:
    """Floating-point operations of one image through one block: attention, and four times as wide.

    Blocks of ViTs are such; one that is a whole stage of layers takes a few times as many. All
    passes over the image are counted.
    """
    (rows, columns), width = tokens.blocks[block].grid, tokens.blocks[block].n_channels
    n_tokens = rows * columns // tokens.passes + tokens.has_cls + tokens.n_registers
    return tokens.passes * n_tokens * (24.0 * width**2 + 4.0 * n_tokens * width)
