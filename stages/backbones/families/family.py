"""A family of backbones: one class of timm's models, with all that depends on it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from inspect import signature
from typing import TYPE_CHECKING, Any, ClassVar, cast

if TYPE_CHECKING:
    import torch

    from cache import TokenKind

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

    #: What messages call models whose layers are defined, so that the last of them can be tuned:
    #: the embeddings, and then the blocks, each of the output of the one before alone.
    layered: ClassVar[str | None] = None

    #: Where a model of layers keeps its blocks.
    blocks: ClassVar[str] = "blocks"

    #: Whether patches of the image enter block 0 as they are, so that they may be moved.
    plain: ClassVar[bool] = False

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

    def named(self, model: torch.nn.Module) -> str:
        """The family as caches have it on record: the class of timm that it is of."""
        return getattr(self, "kind", type(model).__name__)

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

    def keep_blocks(self, model: Any, n_blocks: int) -> None:
        """Drop the blocks of a model of layers from number `n_blocks` on, in place."""
        setattr(model, self.blocks, getattr(model, self.blocks)[:n_blocks])

    def embed(self, model: Any, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Tokens that enter block 0, and the rotary embedding, where the model has one.

        Preprocessed images (n_images, 3, row, column) become tokens as blocks take and give them.
        """
        raise TypeError(f"{type(model).__name__} has no layers that are defined")

    def resumed(self, tokens: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        """Tokens as a block gives them, from those that a cache has of it.

        Parameters
        ----------
        tokens : tensor of shape (n_images, CLS + registers + patches, channel)
        grid : pair of int
            Rows and columns of the patches.
        """
        return tokens

    def patches(self, model: Any, tokens: torch.Tensor) -> torch.Tensor:
        """The patches (n_images, row, column, channel) of tokens as blocks give them."""
        read = tokens[:, int(model.num_prefix_tokens) :]
        return cast("torch.Tensor", read.unflatten(1, tuple(model.patch_embed.grid_size)))

    def rotary(self, model: Any, grid: tuple[int, int]) -> torch.Tensor | None:
        """A copy of the rotary embedding for a grid of patches; None where the model has none."""
        return None

    def rescale_rotary(self, model: Any, mode: bool) -> None:
        """Let a model of `BackboneSettings.rescaling` draw scales at random, or stop it."""
        raise TypeError(f"{self.kind} has no rotary embedding")

    def block(
        self, model: Any, index: int, tokens: torch.Tensor, rotary: torch.Tensor | None
    ) -> torch.Tensor:
        """Tokens after one block, of those before it."""
        return cast("torch.Tensor", getattr(model, self.blocks)[index](tokens))

    def layer(self, parameter: str) -> int:
        """Layer of a parameter by its name: a block, -1 for the embeddings, -2 above the blocks."""
        if parameter.startswith(f"{self.blocks}."):
            return int(parameter.split(".")[1])
        return -1 if parameter.startswith(self.embeddings) else -2


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
