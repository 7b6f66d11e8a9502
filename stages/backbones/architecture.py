"""The architecture of a backbone: timm's model before its weights, and what is refused."""

from __future__ import annotations

import inspect
from typing import Any

import timm
import torch
from timm.layers.patch_embed import PatchEmbed

from cache import UserError
from stages.backbones.families import Family, family_of
from stages.backbones.loading import one_line
from stages.backbones.sampling import Sampling
from stages.backbones.settings import BackboneSettings
from stages.backbones.suggestions import nearest_model

#: Numbers in arguments, and blocks, that a model has at most.
MOST, MOST_BLOCKS = 2**16, 1000

_SUITABLE = 'a plain ViT such as "vit_small_patch16_dinov3.lvd1689m"'


def build(settings: BackboneSettings, input_size: tuple[int, int]) -> tuple[Any, Family, Sampling]:
    """The model as timm makes it, its weights not those that are asked for; family and sampling.

    Raises
    ------
    UserError
        A model that timm does not have, or that is none of the families; arguments, an input size
        or a stride that do not fit it.
    """
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
    return model, family, _sampling(settings, model, input_size)


def try_on_shapes(model: Any, settings: BackboneSettings, input_size: tuple[int, int]) -> None:
    """Compute shapes of one image's tokens, so that arguments that do not fit show in time."""
    try:
        with torch.inference_mode():
            model.forward_intermediates(torch.empty(1, 3, *input_size), intermediates_only=True)
    except (TypeError, ValueError, AssertionError, ArithmeticError, RuntimeError) as error:
        raise UserError(
            f'backbone.name = "{settings.name}", arguments = {settings.arguments}: the model '
            f"cannot see an image ({one_line(error)}); correct the arguments"
        ) from None


def _sampling(settings: BackboneSettings, model: Any, input_size: tuple[int, int]) -> Sampling:
    """How patches lie, with `UserError` where a stride does not fit them."""
    embed, stride = model.patch_embed, settings.stride
    plain, (patch, _) = tuple(embed.grid_size), embed.patch_size
    if stride is None:
        pixels = input_size[0] // plain[0]
        return Sampling(plain=plain, patch=pixels, stride=pixels)
    if not isinstance(embed, PatchEmbed) or embed.patch_size != (patch, patch):
        raise UserError(
            f"backbone.stride = {stride}: {settings.name} has no square patches of its own: drop it"
        )
    if patch % stride:
        divisors = [n for n in range(1, patch + 1) if patch % n == 0]
        raise UserError(
            f"backbone.stride = {stride} does not divide the patch size {patch}x{patch}: "
            f"choose one of {divisors}"
        )
    return Sampling(
        plain=plain,
        patch=patch,
        stride=stride,
        shifted=settings.dense != "overlap",
        padded=settings.pad is not None,
    )


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
