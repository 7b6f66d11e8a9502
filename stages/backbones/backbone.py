"""The Vision Transformers of timm: creation, weights, and the tokens of every block."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import timm
import torch

from cache import TokenKind, TokenShape, UserError
from stages.backbones.families import Family, family_of
from stages.backbones.loading import load_trained, one_line
from stages.backbones.random_weights import randomise
from stages.backbones.settings import BackboneSettings
from stages.backbones.suggestions import nearest_model
from stages.backbones.weights import WeightsIdentity, random_identity

#: Images per forward pass. Tokens shift a little with the batch that they are computed in.
BATCH = 64

#: Numbers in arguments, and blocks, that a model has at most.
MOST, MOST_BLOCKS = 2**16, 1000

_SUITABLE = 'a plain ViT such as "vit_small_patch16_dinov3.lvd1689m"'


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A frozen ViT in evaluation mode.

    Parameters
    ----------
    model : torch module
        A timm model.
    family : Family
        The one that the model is of.
    grid : pair of int
        Patches, rows first.
    mean, std : tuple of float
        Normalisation constants of the checkpoint's own configuration.
    precision : str
        "float32" or "bfloat16" (autocast).
    weights : WeightsIdentity
        Source and identity of the weights.
    """

    model: Any
    family: Family
    grid: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    precision: str
    weights: WeightsIdentity

    @property
    def n_blocks(self) -> int:
        """Transformer blocks."""
        return len(self.model.blocks)

    def token_shape(self, dtype: str) -> TokenShape:
        """Shape of what one image yields, stored in `dtype`."""
        return _token_shape(self.model, dtype)

    @torch.inference_mode()
    def tokens(self, images: torch.Tensor) -> list[dict[TokenKind, torch.Tensor]]:
        """Un-normed residual-stream tokens after every block.

        Parameters
        ----------
        images : tensor of shape (n_images, 3, row, column)
            Preprocessed images on the model's device.

        Returns
        -------
        list of dict
            Per block: `patches` of shape (n_images, grid row, grid column, channel), `cls`
            (n_images, channel), and `registers` (n_images, register, channel) where there are any.
        """
        with torch.autocast(
            images.device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16"
        ):
            outputs = self.model.forward_intermediates(
                images,
                return_prefix_tokens=True,
                norm=False,
                output_fmt="NLC",
                intermediates_only=True,
            )
        tokens: list[dict[TokenKind, torch.Tensor]] = []
        for patches, prefix in outputs:
            tokens.append({"patches": patches.unflatten(1, self.grid), "cls": prefix[:, 0]})
            if prefix.shape[1] > 1:
                tokens[-1]["registers"] = prefix[:, 1:]
        return tokens


def create_backbone(
    settings: BackboneSettings,
    *,
    input_size: tuple[int, int],
    device: torch.device | str = "cpu",
) -> Backbone:
    """Build the architecture at a fixed input size and load its weights.

    Parameters
    ----------
    input_size : pair of int
        Rows and columns in pixels. Patch and position embeddings are resampled once, on loading.

    Raises
    ------
    UserError
        Unknown or unsuitable model; an input the patch size does not divide; weights that are
        missing, unreadable or of another architecture; a hub that cannot be reached.
    """
    model, family = _architecture(settings, input_size)
    if settings.weights == "random":
        weights = random_identity(settings)
        randomise(model, seed=settings.seed, gain=weights.identity["gain"])
    else:
        weights = load_trained(model, family, settings)
    model.requires_grad_(False).eval()
    config = model.pretrained_cfg
    return Backbone(
        model=model.to(device),
        family=family,
        grid=tuple(model.patch_embed.grid_size),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        precision=settings.precision,
        weights=weights,
    )


def plan_token_shape(
    settings: BackboneSettings, *, input_size: tuple[int, int], dtype: str
) -> TokenShape:
    """Shape of what one image would yield, without weights.

    Raises
    ------
    UserError
        As `create_backbone`, but for the weights.
    """
    with torch.device("meta"):
        model, _ = _architecture(settings, input_size)
        if settings.arguments:
            _try(model, settings, input_size)
    return _token_shape(model, dtype)


def _try(model: Any, settings: BackboneSettings, input_size: tuple[int, int]) -> None:
    """Compute shapes of one image's tokens, so that arguments that do not fit show in time."""
    try:
        with torch.inference_mode():
            model.forward_intermediates(torch.empty(1, 3, *input_size), intermediates_only=True)
    except (TypeError, ValueError, AssertionError, ArithmeticError, RuntimeError) as error:
        raise UserError(
            f'backbone.name = "{settings.name}", arguments = {settings.arguments}: the model '
            f"cannot see an image ({one_line(error)}); correct the arguments"
        ) from None


def _token_shape(model: Any, dtype: str) -> TokenShape:
    return TokenShape(
        n_blocks=len(model.blocks),
        grid=tuple(model.patch_embed.grid_size),
        n_channels=model.embed_dim,
        n_registers=model.num_prefix_tokens - 1,
        dtype=dtype,
    )


def _architecture(settings: BackboneSettings, input_size: tuple[int, int]) -> tuple[Any, Family]:
    """The model as timm makes it, its weights not those that are asked for, and its family."""
    trained = timm.list_models(pretrained=True)
    if settings.name not in {*timm.list_models(), *trained}:
        near = nearest_model(settings.name, trained)
        raise UserError(
            f'backbone.name = "{settings.name}" is not a model of timm; did you mean "{near}"?'
        )
    _check_arguments(settings)
    arguments: dict[str, Any] = {"img_size": input_size, "num_classes": 0, **settings.arguments}
    if settings.patch_size is not None:
        arguments["patch_size"] = settings.patch_size
    try:
        model: Any = timm.create_model(settings.name, pretrained=False, **arguments)
    except (TypeError, ValueError, AssertionError, ArithmeticError, RuntimeError) as error:
        raise UserError(
            f'backbone.name = "{settings.name}", arguments = {settings.arguments}: {error}; '
            f"name {_SUITABLE}, with arguments it takes"
        ) from None
    family = family_of(model)
    if family is None or model.cls_token is None:
        raise UserError(
            f'backbone.name = "{settings.name}" is not a Vision Transformer with a CLS token: name '
            f"{_SUITABLE}"
        )
    patch = model.patch_embed.patch_size
    pairs = list(zip(input_size, patch, strict=True))
    if any(size % step for size, step in pairs):
        fitting = [max(step, round(size / step) * step) for size, step in pairs]
        raise UserError(
            f"stimuli.input_size = {list(input_size)} is not a multiple of the patch size "
            f"{patch[0]}x{patch[1]}: use {fitting}, or set backbone.patch_size"
        )
    return model, family


def _check_arguments(settings: BackboneSettings) -> None:
    """Refuse arguments that would have timm read files, and more blocks than any model has.

    Raises
    ------
    UserError
        The message names the argument.
    """
    # What `create_model` itself takes, such as `cache_dir`, is none of the model's.
    reading = {*inspect.signature(timm.create_model).parameters, "file"}
    foreign = sorted(reading & settings.arguments.keys())
    if foreign:
        raise UserError(
            f"backbone.arguments: {foreign[0]} is no argument of the model's own: drop it"
        )
    for name, value in settings.arguments.items():
        if not isinstance(value, str) and abs(value) > MOST:
            raise UserError(f"backbone.arguments: {name} = {value} is beyond {MOST}: lower it")
    depth = settings.arguments.get("depth", 0)
    if not isinstance(depth, str) and depth > MOST_BLOCKS:
        raise UserError(
            f"backbone.arguments: depth = {depth} is more than {MOST_BLOCKS} blocks: lower it"
        )
