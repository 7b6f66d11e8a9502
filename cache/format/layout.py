"""The shape of the tokens of an image, and their cut into chunks and shards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import prod
from typing import Any, Literal

import numpy as np

from cache.arguments import whole_number
from cache.errors import CacheError

TokenKind = Literal["patches", "cls", "registers"]
TOKEN_KINDS: tuple[TokenKind, ...] = ("patches", "cls", "registers")

#: The `dimension_names` of each array of a block; they are part of the format.
DIMENSIONS: dict[TokenKind, tuple[str, ...]] = {
    "patches": ("image", "row", "column", "channel"),
    "cls": ("image", "channel"),
    "registers": ("image", "register", "channel"),
}

#: Aim for the bytes of one chunk, the unit that is read.
CHUNK_BYTES = 4 * 2**20
#: Limit for the bytes of one shard summed over all blocks: what a writer holds in memory.
SHARD_BYTES = 680 * 2**20


#: Shards that a set of images is cut into where it is not too small, and images of the smallest.
SHARDS, LEAST_SHARD = 8, 64


def token_path(block: int, kind: TokenKind) -> str:
    """The array of one block's tokens within a store, such as "blocks/04/patches"."""
    return f"blocks/{block:02d}/{kind}"


@dataclass(frozen=True, kw_only=True)
class Places:
    """Places of a grid's patches in the image that the backbone sees, in pixels, rows first.

    Parameters
    ----------
    stride : pair of float
        From the centre of a patch to that of the next; whole in a cache.
    first_centre : pair of float
        Centre of the first patch, from the image's upper left corner.
    passes : int
        Forward passes that the patch tokens of an image take.
    """

    stride: tuple[float, float]
    first_centre: tuple[float, float]
    passes: int = 1

    def document(self) -> dict[str, Any]:
        """As a store's root has it."""
        return {name: list(v) if name != "passes" else v for name, v in asdict(self).items()}

    @classmethod
    def from_document(cls, document: object) -> Places | None:
        """What a root says of the places; None where it says nothing that can be used."""
        given: Mapping[str, Any] = document if isinstance(document, Mapping) else {}
        try:
            stride, first = (tuple(given[name]) for name in ("stride", "first_centre"))
            numbers = [*stride, *first, passes := given["passes"]]
        except (KeyError, TypeError):
            return None
        known = len(stride) == len(first) == 2 and all(
            isinstance(each, int | float) and 0 < each < 2**16 for each in numbers
        )
        return cls(stride=stride, first_centre=first, passes=passes) if known else None


@dataclass(frozen=True, kw_only=True)
class BlockShape:
    """Shape of the patches of one block, and their places.

    Parameters
    ----------
    grid : tuple of int
        Patch rows and columns.
    n_channels : int
        Width of a token, CLS and registers included.
    places : Places, optional
        Where the patches lie, if that is known.
    """

    grid: tuple[int, int]
    n_channels: int
    places: Places | None = None


@dataclass(frozen=True, kw_only=True)
class TokenShape:
    """Shape of everything one image yields.

    Parameters
    ----------
    n_blocks : int
        Blocks of the backbone.
    grid : tuple of int
        Patch rows and columns; of block 0, where blocks differ.
    n_channels : int
        Width of a token; of block 0, where blocks differ.
    n_registers : int
        Register tokens per image, 0 where the backbone has none.
    dtype : str
        Stored dtype, "float16" or "float32".
    places : Places, optional
        Where the patches lie, if that is known; of block 0, where blocks differ.
    has_cls : bool
        Whether there is a CLS token.
    differing : tuple of BlockShape
        Every block, where they are not all alike; see `of_blocks`.
    """

    n_blocks: int
    grid: tuple[int, int]
    n_channels: int
    n_registers: int
    dtype: str
    places: Places | None = None
    has_cls: bool = True
    differing: tuple[BlockShape, ...] = ()

    @classmethod
    def of_blocks(
        cls, blocks: Sequence[BlockShape], *, n_registers: int, has_cls: bool, dtype: str
    ) -> TokenShape:
        """The shape of some blocks, one after the other, alike or not."""
        first = blocks[0]
        return cls(
            n_blocks=len(blocks),
            grid=first.grid,
            n_channels=first.n_channels,
            n_registers=n_registers,
            dtype=dtype,
            places=first.places,
            has_cls=has_cls,
            differing=() if all(each == first for each in blocks) else tuple(blocks),
        )

    @property
    def blocks(self) -> tuple[BlockShape, ...]:
        """Every block."""
        alike = BlockShape(grid=self.grid, n_channels=self.n_channels, places=self.places)
        return self.differing or (alike,) * self.n_blocks

    @property
    def passes(self) -> int:
        """Forward passes that an image takes."""
        return 1 if self.places is None else self.places.passes

    def document(self) -> dict[str, Any]:
        """What a store's root says of it beside the arrays; places once where they are alike."""
        each = [None if b.places is None else b.places.document() for b in self.blocks]
        places = each[0] if all(one == each[0] for one in each) else each
        said = {
            "has_cls": None if self.has_cls else False,
            "blocks_differ": True if self.differing else None,
            "places": places or None,
        }
        return {name: value for name, value in said.items() if value is not None}

    def kinds(self) -> tuple[TokenKind, ...]:
        """The arrays of a block."""
        held = {"patches": True, "cls": self.has_cls, "registers": self.n_registers > 0}
        return tuple(kind for kind in TOKEN_KINDS if held[kind])

    def item(self, kind: TokenKind, block: int = 0) -> tuple[int, ...]:
        """Shape of one image's tokens of one kind in one block."""
        shape = self.blocks[block]
        before = {"patches": shape.grid, "cls": (), "registers": (self.n_registers,)}
        return (*before[kind], shape.n_channels)

    def item_bytes(self, kind: TokenKind, block: int = 0) -> int:
        """Bytes of one image's tokens of one kind in one block."""
        return prod(self.item(kind, block)) * np.dtype(self.dtype).itemsize

    def block_bytes(self, block: int) -> int:
        """Bytes of one image's tokens of all kinds in one block."""
        return sum(self.item_bytes(kind, block) for kind in self.kinds())

    @property
    def image_bytes(self) -> int:
        """Bytes of one image's tokens over all blocks and kinds."""
        return sum(map(self.block_bytes, range(self.n_blocks)))


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Images per shard (unit of writing and of resuming) and per chunk (unit of reading)."""

    images_per_shard: int
    images_per_chunk: dict[TokenKind, int]

    def n_shards(self, n_images: int) -> int:
        """Shards that hold `n_images`."""
        return -(-n_images // self.images_per_shard)


def plan_layout(
    shape: TokenShape,
    *,
    n_images: int,
    chunk_bytes: int = CHUNK_BYTES,
    shard_bytes: int = SHARD_BYTES,
) -> Layout:
    """Choose powers of two, so that every chunk divides every shard.

    All blocks are cut alike: as the largest needs it, where they differ.

    Parameters
    ----------
    n_images : int
        A small set gets shards no larger than it needs, and some of them where it can: while one is
        written, the next is computed.
    chunk_bytes, shard_bytes : int
        Upper bounds (a single image may exceed them).
    """
    needed = 1 << max(0, n_images - 1).bit_length()
    needed = min(needed, max(LEAST_SHARD, _power_of_two_below(n_images // SHARDS)))
    shard = min(_power_of_two_below(shard_bytes // shape.image_bytes), needed)
    chunks = {
        kind: min(_power_of_two_below(chunk_bytes // largest), shard)
        for kind in shape.kinds()
        for largest in [max(shape.item_bytes(kind, b) for b in range(shape.n_blocks))]
    }
    return Layout(images_per_shard=shard, images_per_chunk=chunks)


def resolve_block(index: int, n_blocks: int) -> int:
    """A block's 0-based index from one that may be negative.

    Raises
    ------
    CacheError
        "block 14 of 12: 0..11 or -12..-1".
    UserError
        No whole number.
    """
    index = whole_number(index, "block")
    if not -n_blocks <= index < n_blocks:
        raise CacheError(
            f"block {index} of {n_blocks}: choose 0..{n_blocks - 1} or -{n_blocks}..-1"
        )
    return index % n_blocks


def _power_of_two_below(number: int) -> int:
    return 1 << max(0, number.bit_length() - 1)
