"""Random weights for a backbone, by seed: blocks that differ, on every platform alike."""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

#: Part of the weights' identity: raised whenever the same seed and gain give other weights.
RECIPE = 1

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

_BRANCH_OUTPUT = re.compile(r"blocks\.(\d+)\.(?:attn\.proj|mlp\.fc2)\.weight$")


def randomise(model: torch.nn.Module, *, seed: int, gain: float = DEFAULT_GAIN) -> None:
    """Replace every parameter of a timm Vision Transformer by random numbers, in place.

    A parameter depends on its name, its shape, `seed` and `gain` alone, so the same call gives
    the same backbone on every platform. Biases become 0, norm layers the identity, and LayerScale
    factors 1 (the 1e-5 that some families start from would leave all blocks the same).

    Parameters
    ----------
    gain : float
        How much the attention and MLP outputs that are added to the tokens grow from each block
        to the next. A residual block forgets nothing: with equal outputs (gain 1, or the usual
        initialisation) block i adds one part to i others, and neighbouring blocks are nearly the
        same. With a gain above 1 each block outgrows its input: tokens grow by about `gain` per
        block, and the correlation between neighbouring blocks settles near ``1 / gain``. With
        the default, 12 blocks stay well inside the range of float16.
    """
    import torch

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = _values(name, tuple(parameter.shape), seed=seed, gain=gain)
            parameter.copy_(torch.from_numpy(values))


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
        values -= values.mean(axis=(2, 3), keepdims=True)
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
