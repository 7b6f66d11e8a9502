"""The layers of a backbone up to a block, run one after the other in all passes of its stride."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from cache import TokenShape
from stages.backbones.backbone import Backbone
from stages.backbones.families import Family
from stages.backbones.sampling import GridPart, Sampling

_WHOLE = (slice(None), slice(None))


@dataclass(frozen=True)
class Layers:
    """Runs the embeddings and blocks of a model, which keeps its parameters.

    Parameters
    ----------
    model : torch module
        The backbone's, or a copy of it.
    family : Family
        One whose layers are defined.
    sampling : Sampling, optional
        How its patches lie.
    shape : TokenShape
        What one image yields.
    """

    model: Any
    family: Family
    sampling: Sampling | None
    shape: TokenShape

    @classmethod
    def of(cls, backbone: Backbone, model: Any, *, block: int) -> Layers:
        """Those of a backbone's model up to a block; the blocks above are dropped, in place."""
        backbone.family.keep_blocks(model, block + 1)
        return cls(model, backbone.family, backbone.sampling, backbone.shape)

    def of_images(
        self, images: torch.Tensor, blocks: Collection[int], *, cls: bool
    ) -> torch.Tensor:
        """Tokens (n_images, row, column, channel) of some blocks, their channels joined.

        CLS tokens are on a grid of 1 x 1, and those of the pass over the images as they are.

        Parameters
        ----------
        images : tensor of shape (n_images, 3, row, column)
            Preprocessed.
        """
        whole = ((_WHOLE, images),)
        shifts = whole if self.sampling is None else self.sampling.shifts(images)
        passes = ((part, *self.family.embed(self.model, seen)) for part, seen in shifts)
        return self._joined(
            ((part, self._run(x, rotary, 0, blocks, cls=cls)) for part, x, rotary in passes),
            cls=cls,
        )

    def of_cached(
        self,
        tokens: torch.Tensor,
        start: int,
        block: int,
        rotary: torch.Tensor | None,
        *,
        cls: bool,
    ) -> torch.Tensor:
        """The same of one block, from what a cache has of a block before it, or of itself.

        Where the model has CLS or registers, and a stride several passes, these are cached of the
        first pass alone: it is the block itself then, or CLS tokens are read.

        Parameters
        ----------
        tokens : tensor of shape (n_images, CLS + registers + patches, channel)
            Of block `start`.
        rotary : tensor, optional
            From `rotary`.
        """
        grid = self.shape.blocks[start].grid
        n_prefix = tokens.shape[1] - grid[0] * grid[1]
        if start == block:
            read, places = (tokens[:, :1], (1, 1)) if cls else (tokens[:, n_prefix:], grid)
            same: torch.Tensor = read.float().unflatten(1, places)
            return same
        return self._joined(
            (
                (part, self._run(x, rotary, start + 1, [block], cls=cls))
                for part, x in self._cached_passes(tokens, n_prefix, grid)
            ),
            cls=cls,
        )

    def rotary(self) -> torch.Tensor | None:
        """The rotary embedding of a pass, which no tokens change."""
        embed = getattr(self.model, "patch_embed", None)
        return self.family.rotary(self.model, tuple(getattr(embed, "grid_size", (0, 0))))

    def _run(
        self,
        x: torch.Tensor,
        rotary: torch.Tensor | None,
        first: int,
        blocks: Collection[int],
        *,
        cls: bool,
    ) -> torch.Tensor:
        read = []
        for index in range(first, max(blocks) + 1):
            x = self.family.block(self.model, index, x, rotary)
            if index in blocks:
                tokens = x[:, :1, None] if cls else self.family.patches(self.model, x)
                read.append(tokens.float())
        return torch.cat(read, dim=-1)

    def _cached_passes(
        self, tokens: torch.Tensor, n_prefix: int, grid: tuple[int, int]
    ) -> Iterator[tuple[GridPart, torch.Tensor]]:
        """What enters the next block in every pass: CLS and registers are in the first alone."""
        if self.shape.passes == 1:
            yield _WHOLE, self.family.resumed(tokens, grid)
            return
        assert self.sampling is not None
        fine = tokens[:, n_prefix:].unflatten(1, grid)
        for number, part in enumerate(self.sampling.parts()):
            patches = fine[:, *part].flatten(1, 2)
            yield part, patches if number else torch.cat([tokens[:, :n_prefix], patches], dim=1)

    def _joined(
        self, passes: Iterator[tuple[GridPart, torch.Tensor]], *, cls: bool
    ) -> torch.Tensor:
        """The grid of all passes; the first alone, where there is one or CLS tokens are read."""
        whole: torch.Tensor | None = None
        for part, tokens in passes:
            if cls or self.shape.passes == 1:
                return tokens
            if whole is None:
                whole = tokens.new_empty(len(tokens), *self.shape.grid, tokens.shape[-1])
            whole[:, *part] = tokens
        assert whole is not None
        return whole
