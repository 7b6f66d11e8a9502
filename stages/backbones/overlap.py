"""Patches that overlap: a ViT's patch projection and positions for a smaller stride."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.functional import interpolate, pad

from stages.backbones.sampling import Sampling, reflected


class _Reflection:
    """Hook of a patch projection: its images are mirrored below and to the right."""

    def __init__(self, margin: int) -> None:
        self.margin = margin

    def __call__(self, module: nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        return (reflected(inputs[0], self.margin),)


def overlap_patches(model: Any, sampling: Sampling) -> None:
    """Have a timm ViT see patches a stride apart, in place; its weights are loaded already.

    Absolute positions are interpolated (bicubic, as timm resamples them) at the patches' true
    places, rotary ones computed there. Patches of the plain grid keep the positions they had.
    Beyond the last of them, absolute positions are those of the edge.

    Raises
    ------
    TypeError
        A rotary embedding whose coordinates cannot be refined.
    """
    embed, plain, grid = model.patch_embed, sampling.plain, sampling.grid
    if model.pos_embed is not None:
        prefix = model.pos_embed.shape[1] - plain[0] * plain[1]
        kept, places = model.pos_embed.detach().split([prefix, plain[0] * plain[1]], dim=1)
        fine = _interpolated(places.unflatten(1, plain), sampling.steps, grid)
        model.pos_embed = nn.Parameter(torch.cat([kept, fine.flatten(1, 2)], dim=1))
    if getattr(model, "rope", None) is not None:
        model.rope = FineRotary(model.rope, plain, sampling.steps, grid)
    embed.proj.stride = (sampling.stride, sampling.stride)
    if sampling.margin:
        embed.proj.register_forward_pre_hook(_Reflection(sampling.margin))
    embed.grid_size, embed.num_patches = grid, grid[0] * grid[1]


def _interpolated(places: torch.Tensor, steps: int, grid: tuple[int, int]) -> torch.Tensor:
    """Positions (1, row, column, channel) at every 1 / steps of the plain grid."""
    rows, columns = places.shape[1:3]
    # One more at the edges: between the last of them and its copy lie the padded patches.
    edged = pad(places.permute(0, 3, 1, 2), (0, 1, 0, 1), mode="replicate")
    size = (rows * steps + 1, columns * steps + 1)
    fine = interpolate(edged, size=size, mode="bicubic", align_corners=True)
    return fine[..., : grid[0], : grid[1]].permute(0, 2, 3, 1)


class FineRotary(nn.Module):
    """A rotary embedding of timm for patches that lie `steps` times as close as in its grid.

    It computes the embedding of a grid of as many more places along each axis, with coordinates
    that are the true ones: patch n of the fine grid is at n / steps of the plain one.
    """

    def __init__(
        self, rope: Any, plain: tuple[int, ...], steps: int, grid: tuple[int, int]
    ) -> None:
        super().__init__()
        kind = getattr(rope, "grid_type", "centered" if hasattr(rope, "periods") else "index")
        # timm keeps the embedding of one grid, or computes that of any.
        held, mixed = getattr(rope, "feat_shape", None) is not None, hasattr(rope, "freqs")
        if kind == "pixel" or not (held or hasattr(rope, "grid_offset")):
            raise TypeError(f"no places can be given to its {type(rope).__name__}")
        self.rope, self.feat_shape = rope, grid
        self._fine = (plain[0] * steps, plain[1] * steps)
        self._shape = None if held else self._fine
        if kind == "centered":
            # (n / steps + 0.5 + offset) / rows = (n + 0.5 + offset') / (steps * rows)
            rope.grid_offset = steps * (0.5 + rope.grid_offset) - 0.5
        elif not mixed:
            rope.grid_offset *= steps
            rope.ref_feat_shape = rope.ref_feat_shape or plain
        rope.update_feat_shape(self._fine)
        if mixed:
            rope.t_x, rope.t_y = rope.t_x / steps, rope.t_y / steps

    def get_embed(self, shape: object = None, dtype: torch.dtype | None = None) -> torch.Tensor:
        """The embedding of the fine grid, whatever the shape; places are the last axis but one."""
        embedding: torch.Tensor = self.rope.get_embed(self._shape, dtype=dtype)
        rows, columns = self.feat_shape
        places: torch.Tensor = embedding.unflatten(-2, self._fine)
        return places[..., :rows, :columns, :].flatten(-3, -2)
