"""Floating-point operations of backbones, told from the shape of their tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cache import TokenShape

#: Floating-point operations per second of one core in float32 through the blocks: measured on a
#: shared server.
VIT_RATE = 140e9


def image_operations(tokens: TokenShape) -> float:
    """Those of one image through all blocks."""
    return sum(block_operations(tokens, block) for block in range(tokens.n_blocks))


def block_operations(tokens: TokenShape, block: int = 0) -> float:
    """Floating-point operations of one image through one block: attention, and four times as wide.

    Blocks of ViTs are such; one that is a whole stage of layers takes a few times as many. All
    passes over the image are counted.
    """
    (rows, columns), width = tokens.blocks[block].grid, tokens.blocks[block].n_channels
    n_tokens = rows * columns // tokens.passes + tokens.has_cls + tokens.n_registers
    return tokens.passes * n_tokens * (24.0 * width**2 + 4.0 * n_tokens * width)
