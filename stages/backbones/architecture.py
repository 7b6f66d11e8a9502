"""The architecture of a backbone: timm's model before its weights, and what is refused."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from cache import BlockShape, TokenShape, UserError
from stages.backbones.families import Family, family_of
from stages.backbones.lattices import followed
from stages.backbones.listing import nearest_model
from stages.backbones.loading import one_line
from stages.backbones.sampling import Sampling
from stages.backbones.settings import BackboneSettings
from stages.backbones.timm_import import timm

#: Numbers in arguments, and blocks, that a model has at most.
MOST, MOST_BLOCKS = 2**16, 1000

_SUITABLE = 'one such as "vit_small_patch16_dinov3.lvd1689m"'

#: What models raise that cannot be made with some arguments, or cannot see an image.
_UNFIT = (TypeError, ValueError, AssertionError, ArithmeticError, RuntimeError, IndexError)


@dataclass(frozen=True)
class Architecture:
    """A model as timm makes it, its weights not those that are asked for.

    Parameters
    ----------
    model : torch module
        In evaluation mode.
    family : Family
        The one that it is of.
    sampling : Sampling, optional
        How square patches lie, where it has any.
    shape : TokenShape
        What one image yields, in float32.
    """

    model: Any
    family: Family
    sampling: Sampling | None
    shape: TokenShape


def build(settings: BackboneSettings, input_size: tuple[int, int]) -> Architecture:
    """Make a model, and tell what it yields.

    Raises
    ------
    UserError
        A model that timm does not have, or that has no intermediate outputs; arguments, an input
        size or a stride that do not fit it.
    """
    trained = timm.list_models(pretrained=True)
    if settings.name not in {*timm.list_models(), *trained}:
        near = nearest_model(settings.name, trained)
        raise UserError(
            f'backbone.name = "{settings.name}" is not a model of timm; did you mean "{near}"?'
        )
    _check_arguments(settings)
    try:
        model = _created(settings, input_size)
    except _UNFIT as error:
        raise UserError(
            f'backbone.name = "{settings.name}", arguments = {settings.arguments}: {error}; '
            f"name {_SUITABLE}, with arguments it takes"
        ) from None
    family = family_of(model)
    if family is None:
        raise UserError(
            f'backbone.name = "{settings.name}" has no intermediate outputs to read: name '
            f"{_SUITABLE}; vitv1 backbones lists them"
        )
    model.eval()
    sampling = _sampling(settings, model, family, input_size)
    if sampling is None:
        shape = _seen(model, family, settings, input_size)
    else:
        has_cls = model.cls_token is not None
        shape = TokenShape(
            n_blocks=len(model.blocks),
            grid=sampling.grid,
            n_channels=model.embed_dim,
            n_registers=model.num_prefix_tokens - has_cls,
            dtype="float32",
            places=sampling.places,
            has_cls=has_cls,
        )
        if settings.arguments and next(model.parameters()).is_meta:
            # Arguments that do not fit show in time.
            _seen(model, family, settings, input_size)
    return Architecture(model, family, sampling, shape)


def _created(settings: BackboneSettings, input_size: tuple[int, int]) -> Any:
    """The model, told the input size where it takes it: others take any, or one of their own."""
    arguments: dict[str, Any] = {"num_classes": 0, **settings.arguments}
    if settings.patch_size is not None:
        arguments["patch_size"] = settings.patch_size
    create = partial(timm.create_model, settings.name, pretrained=False)
    try:
        return create(img_size=input_size, **arguments)
    except TypeError as error:
        if "img_size" not in str(error):
            raise
    except AssertionError:
        # Sides that differ, for models that see such images all the same.
        pass
    return create(**arguments)


def _seen(
    model: Any, family: Family, settings: BackboneSettings, input_size: tuple[int, int]
) -> TokenShape:
    """What the model makes of one image: the shapes of its tokens, and where they lie."""
    image = torch.zeros(1, 3, *input_size, device=next(model.parameters()).device)
    try:
        with torch.inference_mode(), followed(model, input_size) as lattices:
            blocks = family.tokens(model, image)
        shapes = [tuple(b["patches"].shape[1:]) for b in blocks]
        first = blocks[0]
    except _UNFIT as error:
        why = one_line(error) or type(error).__name__
        own = model.pretrained_cfg.get("input_size", (3, 0, 0))[1:]
        raise UserError(
            f'backbone.name = "{settings.name}", arguments = {settings.arguments}: the model '
            f"cannot see an image of {input_size[0]}x{input_size[1]} ({why}); correct "
            f"the arguments, or set stimuli.input_size = {list(own)}, for which it was made"
        ) from None
    return TokenShape.of_blocks(
        [
            BlockShape(grid=(rows, columns), n_channels=n, places=lattices.places((rows, columns)))
            for rows, columns, n in shapes
        ],
        n_registers=first["registers"].shape[1] if "registers" in first else 0,
        has_cls="cls" in first,
        dtype="float32",
    )


def _sampling(
    settings: BackboneSettings, model: Any, family: Family, input_size: tuple[int, int]
) -> Sampling | None:
    """How square patches lie; None where there are none.

    Raises
    ------
    UserError
        Patches that do not divide the image, or a stride that does not fit them.
    """
    embed, stride = getattr(model, "patch_embed", None), settings.stride
    if not (family.plain and isinstance(embed, timm.layers.patch_embed.PatchEmbed)):
        if stride is None:
            return None
        raise UserError(
            f"backbone.stride = {stride}: {settings.name} has no square patches of its own: drop it"
        )
    pairs = list(zip(input_size, embed.patch_size, strict=True))
    patch = embed.patch_size[0]
    if any(size % step for size, step in pairs):
        fitting = [max(step, round(size / step) * step) for size, step in pairs]
        raise UserError(
            f"stimuli.input_size = {list(input_size)} is not a multiple of the patch size "
            f"{patch}x{embed.patch_size[1]}: use {fitting}, or set backbone.patch_size"
        )
    assert embed.grid_size is not None
    plain = embed.grid_size
    if embed.patch_size != (patch, patch):
        if stride is None:
            return None
        raise UserError(
            f"backbone.stride = {stride}: {settings.name} has no square patches of its own: drop it"
        )
    if stride is None:
        return Sampling(plain=plain, patch=patch, stride=patch)
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
