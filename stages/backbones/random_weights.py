"""Random weights for a backbone, by seed: blocks that differ, on every platform alike."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stages.backbones.families import family_of

if TYPE_CHECKING:
    import torch

#: Part of the weights' identity: another whenever the same seed and gain give other weights. The
#: first is that of plain ViTs, the second that of all other models and of ViTs with a convolutional
#: stem, which had the first before version 0.2: their tokens told nothing of the image.
PLAIN_RECIPE, OTHER_RECIPE = 1, 2
RECIPES = (PLAIN_RECIPE, OTHER_RECIPE)

#: How the names in the convolutional stem of a ViT begin: it follows `_Others`, the rest `_values`.
_STEM = "patch_embed.backbone."

#: Growth of the tokens from block to block.
DEFAULT_GAIN = 2.0

#: Size of an image's patch embedding; with the default gain it puts the tokens of block 4 near 1.
EMBEDDING_STD = 0.25
#: Size of position embeddings, CLS and register tokens.
POSITION_STD = 0.1
#: Size of the output projections of an imaginary block -1; block i has `gain**i` times it.
PROJECTION_STD = 0.12
#: Queries and keys exceed unit variance by this: attention selects tokens, which a readout cannot
#: undo, yet stays far from the all-or-none regime where rounding errors grow from block to block.
SHARPNESS = 1.75

#: Variance of what a layer of other models gives, over that of what it gets and over the gain. With
#: the default gain it is 1.6: between what keeps signals that pass ReLU (2) and what keeps those of
#: branches that are added to their input over and over (1).
LAYER_VARIANCE = 0.8

#: Parameters that models begin with as constants, and that keep their values: temperatures of
#: attention, and gains of layers that normalise their own weights.
_KEPT = re.compile(r"(logit_scale|temperature|gain)$")
#: Factors of branches that are added to their input.
_FACTOR = re.compile(r"(gamma\w*|layer_?scale\w*|ls\d?|scale)$")
#: What is added to the tokens, where blocks are counted through; and how many of them grow with the
#: whole gain: of more, each grows less.
_ADDED = re.compile(r"blocks\.(\d+)\.(?:.*\.)?(?:proj|fc2)\.weight$")

GROWING = 12

#: The projection of patches whose pixels are in one row.
_FLAT_PATCHES = re.compile(r"(embeds|patch_embed)\.(?:input_)?proj\.weight$")

_BRANCH_OUTPUT = re.compile(r"blocks\.(\d+)\.(?:attn\.proj|mlp\.fc2)\.weight$")


def recipe_of(model: torch.nn.Module) -> int:
    """Which of `RECIPES` gives a timm model its random weights."""
    family = family_of(model)
    stem = any(name.startswith(_STEM) for name, _ in model.named_parameters())
    plain = family is not None and family.plain and not stem
    return PLAIN_RECIPE if plain else OTHER_RECIPE


def randomise(model: torch.nn.Module, *, seed: int, gain: float = DEFAULT_GAIN) -> None:
    """Replace every parameter of a timm model by random numbers, in place.

    A parameter depends on its name, its shape, `seed` and `gain` alone, so the same call gives
    the same backbone on every platform. Biases become 0, norm layers the identity, and LayerScale
    factors 1 (the 1e-5 that some families start from would leave all blocks the same).

    Models with stages, and convolutional ones, get weights of `LAYER_VARIANCE` times the gain over
    the number of a layer's inputs (after He et al. 2015, where it is 2). Each stage begins with a
    random projection, so that blocks differ there anyway.

    Parameters
    ----------
    gain : float
        For plain ViTs, and others whose blocks are alike in width:
        How much the attention and MLP outputs that are added to the tokens grow from each block
        to the next. A residual block forgets nothing: with equal outputs (gain 1, or the usual
        initialisation) block i adds one part to i others, and neighbouring blocks are nearly the
        same. With a gain above 1 each block outgrows its input: tokens grow by about `gain` per
        block, and the correlation between neighbouring blocks settles near ``1 / gain``. With
        the default, 12 blocks stay well inside the range of float16.
    """
    import torch

    with torch.no_grad():
        family = family_of(model)
        plain = family is not None and family.plain
        names = [name for name, _ in model.named_parameters()]
        n_blocks = max((int(n.split(".")[1]) + 1 for n in names if _ADDED.match(n)), default=0)
        n_factors = sum(_FACTOR.search(name) is not None for name in names)
        others = _Others(n_blocks=n_blocks, n_factors=n_factors, seed=seed, gain=gain)
        for path, module in model.named_modules():
            for own, parameter in module.named_parameters(recurse=False):
                name = f"{path}.{own}" if path else own
                made: NDArray[np.float32] | None
                if plain and not name.startswith(_STEM):
                    made = _values(name, tuple(parameter.shape), seed=seed, gain=gain)
                else:
                    normalises = "norm" in type(module).__name__.lower()
                    shape = tuple(parameter.shape)
                    made = others.values(name, shape, normalises=normalises)
                if made is not None:
                    parameter.copy_(torch.from_numpy(made))


def _values(name: str, shape: tuple[int, ...], *, seed: int, gain: float) -> NDArray[np.float32]:
    """The values of one parameter, array of the given shape."""
    if name.endswith("bias"):
        return np.zeros(shape, dtype=np.float32)
    if "norm" in name or "gamma" in name:
        return np.ones(shape, dtype=np.float32)
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    values = rng.standard_normal(shape)
    if len(shape) == 4:
        # Without its mean a filter ignores how bright a patch is. In natural images brightness
        # dwarfs everything else, and the tokens of all blocks would say little more.
        values -= values.mean(axis=(2, 3) if shape[2:] != (1, 1) else 1, keepdims=True)
        values *= EMBEDDING_STD / np.sqrt(np.prod(shape[1:]))
    elif len(shape) == 2:
        values /= np.sqrt(shape[1])
        if branch := _BRANCH_OUTPUT.search(name):
            values *= PROJECTION_STD * gain ** int(branch[1])
        elif name.endswith("attn.qkv.weight"):
            values[: 2 * shape[0] // 3] *= SHARPNESS
    else:
        values *= POSITION_STD
    return values.astype(np.float32)


@dataclass(frozen=True)
class _Others:
    """The values of a model's parameters by their names, whatever the model.

    Parameters
    ----------
    n_blocks, n_factors : int
        Blocks that are counted through, and factors of branches.
    """

    n_blocks: int
    n_factors: int
    seed: int
    gain: float

    def values(
        self, name: str, shape: tuple[int, ...], *, normalises: bool
    ) -> NDArray[np.float32] | None:
        """The values of one parameter; None where it keeps those that it has."""
        if name.endswith("bias"):
            return np.zeros(shape, dtype=np.float32)
        if _KEPT.search(name):
            return None
        if normalises:
            return np.ones(shape, dtype=np.float32)
        if _FACTOR.search(name):
            # All branches together add about as much as there is.
            factor = 1 if self.n_blocks else 1 / np.sqrt(self.n_factors)
            return np.full(shape, factor, dtype=np.float32)
        rng = np.random.default_rng([self.seed, zlib.crc32(name.encode())])
        values = rng.standard_normal(shape)
        if not name.endswith("weight") or len(shape) < 2:
            return (POSITION_STD * values).astype(np.float32)
        if len(shape) == 4 and shape[1] > 1:
            # As above, and behind an activation nothing is on average 0.
            axes = (2, 3) if shape[1] == 3 and np.prod(shape[2:]) > 1 else (1, 2, 3)
            values -= values.mean(axis=axes, keepdims=True)
        elif len(shape) == 2 and _FLAT_PATCHES.search(name):
            values -= values.mean(axis=1, keepdims=True)
        variance = LAYER_VARIANCE * self.gain
        values *= np.sqrt(variance / np.prod(shape[1:]))
        if added := _ADDED.match(name):
            growth = self.gain ** (int(added[1]) * min(1, GROWING / self.n_blocks))
            values *= PROJECTION_STD * growth / np.sqrt(variance)
        elif name.endswith("attn.qkv.weight"):
            values[: 2 * shape[0] // 3] *= SHARPNESS
        elif "pos_embed" in name:
            values *= POSITION_STD
        return values.astype(np.float32)
