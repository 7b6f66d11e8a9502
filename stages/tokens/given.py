"""Tokens as callers give them, as tensors that everything here can compute with."""

from __future__ import annotations

import warnings
from typing import Any

import torch

from cache import UserError, as_array

#: Axes of patch tokens, and of CLS tokens.
GRID = ("image", "row", "column", "channel")
CLS = ("image", "channel")

#: Numbers that every operation takes; others become float64.
_USUAL = (
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
)


def as_grid(tokens: Any, what: str = "tokens") -> torch.Tensor:
    """Tokens as a tensor of shape (n_images, n_rows, n_columns, n_channels); CLS on a 1 x 1 grid.

    The tensor shares memory with what was given, where it can.

    Parameters
    ----------
    tokens : array of shape (n_images, n_rows, n_columns, n_channels) or (n_images, n_channels)
        Anything that `cache.as_array` takes; a tensor stays on its device, without gradients.

    Raises
    ------
    UserError
        Neither 2 nor 4 axes, or no numbers, or masked ones.
    """
    x = _checked(tokens, what) if isinstance(tokens, torch.Tensor) else _tensor(tokens, what)
    if x.dtype not in _USUAL:
        x = x.to(torch.float64)
    return x[:, None, None, :] if x.ndim == 2 else x


def _tensor(tokens: Any, what: str) -> torch.Tensor:
    values = as_array(tokens, what, GRID, CLS)
    with warnings.catch_warnings():
        # A read-only array: nothing is written into it.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writ")
        return torch.from_numpy(values)


def _checked(tokens: torch.Tensor, what: str) -> torch.Tensor:
    if tokens.device.type == "meta" or tokens.layout != torch.strided or tokens.is_quantized:
        raise UserError(
            f"{what} are a tensor without plain numbers ({tokens.device.type}, {tokens.layout}, "
            f"{tokens.dtype}): pass a dense one"
        )
    if tokens.dtype == torch.bool or tokens.is_complex():
        raise UserError(f"{what} are of {tokens.dtype}, not real numbers")
    if tokens.ndim not in (len(CLS), len(GRID)):
        raise UserError(
            f"{what} have shape {tuple(tokens.shape)}: expected ({', '.join(GRID)}) or "
            f"({', '.join(CLS)})"
        )
    # What was made in inference mode cannot be trained on.
    return tokens.clone() if tokens.is_inference() else tokens.detach()
