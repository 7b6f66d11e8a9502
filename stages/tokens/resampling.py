"""Tokens of one grid at the places of another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from cache import BlockShape, Places
from stages.tokens.combination import Combination


class Taps(NamedTuple):
    """Two neighbours along an axis for each place, and the weight of the second."""

    first: torch.Tensor
    second: torch.Tensor
    weight: torch.Tensor


def together(combination: Combination, tokens: Sequence[torch.Tensor]) -> torch.Tensor:
    """The sources' tokens on the finest grid, channels concatenated.

    Parameters
    ----------
    tokens : sequence of tensor
        Of each source, of shape (n_images, n_rows, n_columns, n_channels); those of another grid
        are interpolated in float32.

    Returns
    -------
    tensor of shape (n_images, n_rows, n_columns, n_channels)
        In the widest of their dtypes.
    """
    finest = combination.finest
    parts = [
        resampled(each, source.shape, finest, how=combination.resample)
        for each, source in zip(tokens, combination.sources, strict=True)
    ]
    return torch.cat(parts, dim=-1)


def resampled(tokens: torch.Tensor, own: BlockShape, onto: BlockShape, *, how: str) -> torch.Tensor:
    """Tokens of one grid at the places of another, in their dtype.

    Outside of its own places the nearest ones count.

    Parameters
    ----------
    tokens : tensor of shape (n_images, n_rows, n_columns, n_channels)
    own, onto : BlockShape
        Grids and places; channels do not matter.
    how : str
        "bilinear" between the four nearest places, or "nearest".
    """
    if (own.grid, own.places) == (onto.grid, onto.places):
        return tokens
    result = tokens
    for axis in (0, 1):
        first, second, weight = taps(own, onto, axis=axis, how=how)
        # Elementwise: the numbers of an image do not depend on which are computed beside it.
        near, far = (result.index_select(axis + 1, each) for each in (first, second))
        if how == "nearest":
            result = near
            continue
        shape = [1, 1, 1, 1]
        shape[axis + 1] = len(weight)
        result = torch.lerp(near.float(), far.float(), weight.view(shape))
    return result.to(tokens.dtype)


def taps(own: BlockShape, onto: BlockShape, *, axis: int, how: str) -> Taps:
    """The neighbours of every place of `onto` along rows (0) or columns (1)."""
    size, places = own.grid[axis], _known(own)
    stride, first = places.stride[axis], places.first_centre[axis]
    wanted = _known(onto)
    pixels = wanted.first_centre[axis] + wanted.stride[axis] * torch.arange(
        onto.grid[axis], dtype=torch.float64
    )
    position = ((pixels - first) / stride).clamp(0, size - 1)
    if how == "nearest":
        nearest = (position + 0.5).floor().long()
        return Taps(nearest, nearest, torch.zeros(len(nearest)))
    low = position.floor().long()
    return Taps(low, (low + 1).clamp(max=size - 1), (position - low).float())


def _known(shape: BlockShape) -> Places:
    assert shape.places is not None
    return shape.places
