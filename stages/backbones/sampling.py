"""Sampling of an image by patches: how far apart they lie, and which passes look at them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from cache import Places

if TYPE_CHECKING:
    import torch

#: Every so-manieth row and column of a grid.
GridPart = tuple[slice, slice]


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Square patches over an image.

    Parameters
    ----------
    plain : pair of int
        Rows and columns of patches side by side.
    patch, stride : int
        Pixels of a patch's side, and from a patch to the next; the stride divides the patch.
    shifted : bool
        Whether patches between those of the plain grid are seen in passes over shifted images;
        else one pass sees all of them.
    padded : bool
        Whether the image is reflected at its lower and right edge, so that there are patches as far
        as its last stride.
    """

    plain: tuple[int, int]
    patch: int
    stride: int
    shifted: bool = False
    padded: bool = False

    @property
    def steps(self) -> int:
        """Places of a patch along an axis, from one place of the plain grid to the next."""
        return self.patch // self.stride

    @property
    def overlaps(self) -> bool:
        """Whether one pass sees patches that overlap."""
        return self.stride < self.patch and not self.shifted

    @property
    def passes(self) -> int:
        """Forward passes that an image takes."""
        return self.steps**2 if self.shifted else 1

    @property
    def margin(self) -> int:
        """Reflected pixels below the image, and to its right."""
        return self.patch - self.stride if self.shifted or self.padded else 0

    @property
    def places(self) -> Places:
        """Where the patches lie."""
        centre = self.patch / 2
        return Places(
            stride=(self.stride, self.stride), first_centre=(centre, centre), passes=self.passes
        )

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of all patches."""
        # Without a margin, the last patch of the plain grid is the last of all.
        beyond = self.steps - 1 if self.margin == 0 else 0
        rows, columns = (n * self.steps - beyond for n in self.plain)
        return rows, columns

    def shifts(self, images: torch.Tensor) -> Iterator[tuple[GridPart, torch.Tensor]]:
        """The images of every pass, and the part of the grid that it sees; the unshifted first.

        Parameters
        ----------
        images : tensor of shape (n_images, channel, row, column)
            Shifted ones show, below and to the right, what is reflected there.
        """
        if not self.shifted:
            yield (slice(None), slice(None)), images
            return
        rows, columns = images.shape[-2:]
        wide = reflected(images, self.margin)
        for part in self.parts():
            up, left = (self.stride * axis.start for axis in part)
            yield part, wide[..., up : up + rows, left : left + columns]

    def parts(self) -> Iterator[GridPart]:
        """The part of the grid that each pass over shifted images sees, the unshifted first."""
        for i, j in product(range(self.steps), repeat=2):
            yield slice(i, None, self.steps), slice(j, None, self.steps)


def reflected(images: torch.Tensor, margin: int) -> torch.Tensor:
    """Images that are mirrored at their lower and right edge, so many pixels far."""
    from torch.nn.functional import pad

    return pad(images, (0, margin, 0, margin), mode="reflect") if margin else images
