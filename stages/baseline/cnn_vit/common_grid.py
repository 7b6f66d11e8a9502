"""The grids of two networks on one raw image, brought together at the true centres of their cells.

Axis by axis the finer of both is kept, and the coarser one interpolated linearly at its centres;
beyond the outermost centres the outermost cell counts. Weights of a readout on the common grid are
as good as weights on the coarse grid, which the transposed interpolation gives: tokens need not be
interpolated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache import Places

_Floats = NDArray[np.floating[Any]]

#: Input pixels of a cell of the core's feature map, rows and columns.
POOLED = 2


@dataclass(frozen=True, kw_only=True)
class CommonGrid:
    """The grid of a readout that reads two networks.

    Parameters
    ----------
    core, tokens : pair of array of shape (n, n_own)
        What interpolates rows and columns of the core's feature map, and of the tokens.
    places : Places
        Of its cells, in pixels that the core sees.
    """

    core: tuple[_Floats, _Floats]
    tokens: tuple[_Floats, _Floats]
    places: Places

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        rows, columns = self.core
        return len(rows), len(columns)


def common_grid(
    *,
    image_shape: tuple[int, int],
    crop: tuple[int, int],
    size: tuple[int, int],
    tokens: Mapping[str, Any],
) -> CommonGrid:
    """The common grid of a core and a block of tokens.

    Parameters
    ----------
    image_shape : pair of int
        Rows and columns of a raw image.
    crop, size : pair of int
        Raw columns that the core sees, and the rows and columns that it sees them in.
    tokens : mapping
        From `VitTokens.record`.
    """
    seen = tokens["preprocessing"]
    views = [(crop, size), (tuple(seen["crop"]), tuple(seen["input_size"]))]
    places = Places.from_document(tokens["places"])
    core, vit, first, stride = [], [], [], []
    for axis in (0, 1):
        # From pixels that a network sees to raw ones.
        (start, scale), (vit_start, vit_scale) = (
            _view(image_shape, own, seen_size, axis) for own, seen_size in views
        )
        own = start + scale * (POOLED * np.arange(size[axis] // POOLED) + POOLED / 2)
        theirs = vit_start + vit_scale * _centres(
            places, tokens["grid"][axis], seen["input_size"][axis], axis
        )
        of_core = _step(own) <= _step(theirs)
        fine = own if of_core else theirs
        core.append(_interpolation(fine, own))
        vit.append(_interpolation(fine, theirs))
        first.append(POOLED / 2 if of_core else (float(fine[0]) - start) / scale)
        stride.append(float(POOLED) if of_core else _step(fine) / scale)
    return CommonGrid(
        core=(core[0], core[1]),
        tokens=(vit[0], vit[1]),
        places=Places(stride=(stride[0], stride[1]), first_centre=(first[0], first[1])),
    )


def _view(
    image_shape: tuple[int, int], crop: tuple[int, int], size: tuple[int, int], axis: int
) -> tuple[float, float]:
    """The first raw pixel that a network sees, and raw pixels per pixel that it sees."""
    first, last = (0, image_shape[0]) if axis == 0 else crop
    return float(first), (last - first) / size[axis]


def _centres(places: Places | None, n: int, size: int, axis: int) -> _Floats:
    """Centres of tokens in pixels that the backbone sees; side by side where nobody placed them."""
    if places is None:
        return (np.arange(n) + 0.5) * size / n
    return places.first_centre[axis] + places.stride[axis] * np.arange(n, dtype=np.float64)


def _step(centres: _Floats) -> float:
    return float(centres[1] - centres[0]) if len(centres) > 1 else np.inf


def _interpolation(fine: _Floats, own: _Floats) -> _Floats:
    """Weights, array of shape (n_fine, n_own), of what is at the own centres at the fine ones."""
    return np.stack([np.interp(fine, own, one) for one in np.eye(len(own))], axis=1)
