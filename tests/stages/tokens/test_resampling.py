"""Tokens at the places of another grid, against pixels and against every place in turn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cache import BlockShape, Places
from stages.tokens.resampling import resampled

AXIS = st.tuples(st.integers(1, 6), st.integers(1, 9), st.integers(1, 40))


def shape(rows, columns):
    """A grid of so many tokens, strides and first centres (in quarters of pixels) along an axis."""
    (n, stride, first), (m, step, start) = rows, columns
    places = Places(stride=(stride, step), first_centre=(first / 4, start / 4))
    return BlockShape(grid=(n, m), n_channels=2, places=places)


def centres(block, axis):
    first, stride = block.places.first_centre[axis], block.places.stride[axis]
    return first + stride * np.arange(block.grid[axis])


@given(AXIS, AXIS, AXIS, AXIS)
def test_bilinear_tokens_are_those_of_numpy_at_every_place(a, b, c, d):
    own, onto = shape(a, b), shape(c, d)
    draw = np.random.default_rng(0)
    x = draw.standard_normal((2, *own.grid, 3))
    wanted = np.apply_along_axis(
        lambda column: np.interp(centres(onto, 0), centres(own, 0), column), 1, x
    )
    wanted = np.apply_along_axis(
        lambda row: np.interp(centres(onto, 1), centres(own, 1), row), 2, wanted
    )
    found = resampled(torch.from_numpy(x).float(), own, onto, how="bilinear")
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@given(AXIS, AXIS, AXIS, AXIS)
def test_nearest_tokens_are_as_near_as_any(a, b, c, d):
    own, onto = shape(a, b), shape(c, d)
    names = torch.arange(own.grid[0] * own.grid[1]).view(1, *own.grid, 1).half()
    found = resampled(names, own, onto, how="nearest")[0, :, :, 0]
    assert found.dtype == torch.float16
    for axis, chosen in enumerate(np.divmod(found.numpy().astype(int), own.grid[1])):
        wanted = centres(onto, axis)[:, None] if axis == 0 else centres(onto, axis)[None]
        apart = np.abs(centres(own, axis)[chosen] - wanted)
        least = np.abs(centres(own, axis)[:, None, None] - wanted[None]).min(axis=0)
        np.testing.assert_allclose(apart, np.broadcast_to(least, apart.shape), atol=1e-9)


@pytest.mark.parametrize("how", ["bilinear", "nearest"])
def test_no_number_depends_on_the_images_beside_it(how):
    own, onto = shape((4, 8, 16), (5, 8, 16)), shape((7, 4, 2), (9, 4, 2))
    x = torch.randn(9, *own.grid, 4, generator=torch.Generator().manual_seed(0)).half()
    every = resampled(x, own, onto, how=how)
    assert torch.equal(every[3:4], resampled(x[3:4], own, onto, how=how))
    assert resampled(x, own, own, how=how) is x
