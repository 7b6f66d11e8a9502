"""Places of tokens in the image: followed through the strided layers of a network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from cache import Places

#: Layers that may leave out places.
_STRIDED = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)

#: Rows and columns.
Grid = tuple[int, int]


class Lattices:
    """The grids that an image becomes on its way through a network, and where their centres lie.

    A token's place is the centre of what its last strided layers see, shortcuts, attention and
    layers without stride left aside.
    """

    def __init__(self, size: Grid) -> None:
        self._known: dict[Grid, tuple[Places, int]] = {}
        self._keep(size, Places(stride=(1, 1), first_centre=(0.5, 0.5)), source=size)

    def places(self, grid: Grid) -> Places | None:
        """The places of a grid; None where its cells are not whole pixels apart.

        A grid that no strided layer made is one of merged cells of the next finer one.
        """
        if grid in self._known:
            return self._known[grid][0]
        finer = [(g, p) for g, (p, _) in self._known.items() if _divides(grid, g)]
        if not finer:
            return None
        before, places = min(finer, key=lambda each: _area(each[0]))
        steps = [fine // coarse for fine, coarse in zip(before, grid, strict=True)]
        return _strided(places, steps, [(step - 1) / 2 for step in steps])

    def see(self, module: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        """Hook of a layer with kernel and stride: what grid it makes of which."""
        before, after = (_grid(x) for x in (inputs[0], output))
        places = self.places(before)
        if before == after or places is None:
            return
        kernel, stride, dilation = (
            _pair(getattr(module, name, 1)) for name in ("kernel_size", "stride", "dilation")
        )
        padding = _pair(module.padding)
        offsets = [
            _first_centre(before[a], after[a], kernel[a], stride[a], dilation[a], padding[a])
            for a in (0, 1)
        ]
        self._keep(after, _strided(places, stride, offsets), source=before)

    def _keep(self, grid: Grid, places: Places, *, source: Grid) -> None:
        # Keys and values of an attention may be pooled far in one step; the tokens of that grid
        # come later, from the grid before.
        if grid not in self._known or _area(source) <= self._known[grid][1]:
            self._known[grid] = places, _area(source)


@contextmanager
def followed(model: nn.Module, size: Grid) -> Iterator[Lattices]:
    """The lattices of images of a size that pass a model meanwhile; shapes alone will do."""
    lattices = Lattices(size)
    strided = [m for m in model.modules() if isinstance(m, _STRIDED)]
    hooks = [module.register_forward_hook(lattices.see) for module in strided]
    try:
        yield lattices
    finally:
        for hook in hooks:
            hook.remove()


def _first_centre(
    before: int, after: int, kernel: int, stride: int, dilation: int, padding: int
) -> float:
    """Where the first output of a layer is centred, counted in its inputs from the first one."""
    span = dilation * (kernel - 1) + 1
    if (before + 2 * padding - span) // stride + 1 != after:
        # Padded as in TensorFlow: as much as is needed, and the odd one behind.
        padding = max(0, (after - 1) * stride + span - before) // 2
    return (span - 1) / 2 - padding


def _strided(places: Places, steps: Any, offsets: Any) -> Places:
    rows, columns = (
        (stride * step, first + stride * offset)
        for stride, first, step, offset in zip(
            places.stride, places.first_centre, steps, offsets, strict=True
        )
    )
    return Places(stride=(rows[0], columns[0]), first_centre=(rows[1], columns[1]))


def _grid(maps: torch.Tensor) -> Grid:
    rows, columns = maps.shape[-2:]
    return rows, columns


def _divides(coarse: Grid, fine: Grid) -> bool:
    return all(f % c == 0 for f, c in zip(fine, coarse, strict=True))


def _area(grid: Grid) -> int:
    return grid[0] * grid[1]


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, str):
        return 0, 0
    return (value, value) if isinstance(value, int) else tuple(value)
