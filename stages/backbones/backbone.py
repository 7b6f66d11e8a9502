"""The backbones of timm: creation, weights, and the tokens of every block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from cache import TokenKind, TokenShape, UserError
from stages.backbones.architecture import build
from stages.backbones.families import Family
from stages.backbones.loading import load_trained
from stages.backbones.overlap import overlap_patches
from stages.backbones.random_weights import randomise, recipe_of
from stages.backbones.sampling import GridPart, Sampling
from stages.backbones.settings import BackboneSettings
from stages.backbones.timm_import import shapes_only
from stages.backbones.weights import WeightsIdentity, random_identity

#: Images per forward pass. Tokens shift a little with the batch that they are computed in.
BATCH = 64

#: Tokens of every block, by kind.
AllTokens = list[dict[TokenKind, torch.Tensor]]


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A frozen backbone in evaluation mode.

    Parameters
    ----------
    model : torch module
        A timm model.
    family : Family
        The one that the model is of.
    sampling : Sampling, optional
        How its square patches lie; None where it has none.
    shape : TokenShape
        Shape of what one image yields, in float32.
    mean, std : tuple of float
        Normalisation constants of the checkpoint's own configuration.
    precision : str
        "float32" or "bfloat16" (autocast).
    weights : WeightsIdentity
        Source and identity of the weights.
    """

    model: Any
    family: Family
    sampling: Sampling | None
    shape: TokenShape
    mean: tuple[float, ...]
    std: tuple[float, ...]
    precision: str
    weights: WeightsIdentity

    @property
    def n_blocks(self) -> int:
        """Blocks: intermediate outputs, as timm counts them."""
        return self.shape.n_blocks

    @property
    def grid(self) -> tuple[int, int]:
        """Patch tokens of an image, rows first; in block 0, where blocks differ."""
        return self.shape.grid

    def token_shape(self, dtype: str) -> TokenShape:
        """Shape of what one image yields, stored in `dtype`."""
        return replace(self.shape, dtype=dtype)

    def tokens(self, images: torch.Tensor) -> AllTokens:
        """Tokens after every block, as they are before any final norm.

        Parameters
        ----------
        images : tensor of shape (n_images, 3, row, column)
            Preprocessed images on the model's device.

        Returns
        -------
        list of dict
            Per block: `patches` of shape (n_images, grid row, grid column, channel); and `cls`
            (n_images, channel) and `registers` (n_images, register, channel) where there are any.
        """
        whole: AllTokens = []
        for part, tokens in self.passes(images):
            if self.shape.passes == 1:
                return tokens
            for block, kinds in enumerate(tokens):
                patches = kinds["patches"]
                if len(whole) == block:
                    shape = (len(patches), *self.grid, patches.shape[-1])
                    whole.append({**kinds, "patches": patches.new_empty(shape)})
                whole[block]["patches"][:, *part] = patches
        return whole

    def passes(self, images: torch.Tensor) -> Iterator[tuple[GridPart, AllTokens]]:
        """The same pass by pass: the part of the grid that one sees, and its tokens.

        CLS and registers are of the first pass, over the images as they are, and in no other.
        """
        whole = (((slice(None), slice(None)), images),)
        shifts = whole if self.sampling is None else self.sampling.shifts(images)
        for number, (part, seen) in enumerate(shifts):
            tokens = self.one_pass(seen)
            yield part, [{"patches": b["patches"]} for b in tokens] if number else tokens

    def one_pass(self, images: torch.Tensor) -> AllTokens:
        """The tokens of one pass over preprocessed images."""
        with torch.autocast(
            images.device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16"
        ):
            return self.family.tokens(self.model, images)


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
    made = build(settings, input_size)
    model, family, sampling = made.model, made.family, made.sampling
    if settings.weights == "random":
        weights = random_identity(settings, recipe=recipe_of(model))
        randomise(model, seed=settings.seed, gain=weights.identity["gain"])
    else:
        weights = load_trained(model, family, settings)
    if sampling is not None and sampling.overlaps:
        try:
            overlap_patches(model, sampling)
        except TypeError as error:
            raise UserError(
                f'backbone.dense = "overlap": {settings.name} cannot ({error}); use "shift"'
            ) from None
    model.requires_grad_(False).eval()
    config = model.pretrained_cfg
    return Backbone(
        model=model.to(device),
        family=family,
        sampling=sampling,
        shape=made.shape,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        precision=settings.precision,
        weights=weights,
    )


def has_layers(settings: BackboneSettings, *, input_size: tuple[int, int]) -> bool:
    """Whether "the last N layers" are defined for a backbone."""
    with shapes_only():
        return build(settings, input_size).family.layered is not None


def counted_operations(settings: BackboneSettings, *, input_size: tuple[int, int]) -> float:
    """Floating-point operations of one image through all layers of a backbone, counted on shapes.

    Raises
    ------
    UserError
        As `plan_token_shape`.
    """
    with shapes_only():
        made = build(settings, input_size)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        made.family.tokens(made.model, torch.empty(1, 3, *input_size, device="meta"))
    return float(counter.get_total_flops())


def plan_token_shape(
    settings: BackboneSettings, *, input_size: tuple[int, int], dtype: str
) -> TokenShape:
    """Shape of what one image would yield, without weights.

    Raises
    ------
    UserError
        As `create_backbone`, but for the weights.
    """
    with shapes_only():
        return replace(build(settings, input_size).shape, dtype=dtype)
