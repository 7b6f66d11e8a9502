"""The shape of the tokens of an image, and their cut into chunks and shards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
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
    stride : pair of int
        From the centre of a patch to that of the next.
    first_centre : pair of float
        Centre of the first patch, from the image's upper left corner.
    passes : int
        Forward passes that the patch tokens of an image take.
    """

    stride: tuple[int, int]
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
class TokenShape:
    """Shape of everything one image yields.

    Parameters
    ----------
    n_blocks : int
        Transformer blocks of the backbone.
    grid : tuple of int
        Patch rows and columns.
    n_channels : int
        Width of a token.
    n_registers : int
        Register tokens per image, 0 where the backbone has none.
    dtype : str
        Stored dtype, "float16" or "float32".
    places : Places, optional
        Where the patches lie, if that is known.
    """

    n_blocks: int
    grid: tuple[int, int]
    n_channels: int
    n_registers: int
    dtype: str
    places: Places | None = None

    @property
    def passes(self) -> int:
        """Forward passes that an image takes."""
        return 1 if self.places is None else self.places.passes

    def kinds(self) -> tuple[TokenKind, ...]:
        """The arrays of a block."""
        return TOKEN_KINDS if self.n_registers else TOKEN_KINDS[:2]

    def item(self, kind: TokenKind) -> tuple[int, ...]:
        """Shape of one image's tokens of one kind."""
        before = {"patches": self.grid, "cls": (), "registers": (self.n_registers,)}
        return (*before[kind], self.n_channels)

    def item_bytes(self, kind: TokenKind) -> int:
        """Bytes of one image's tokens of one kind in one block."""
        return int(np.prod(self.item(kind))) * np.dtype(self.dtype).itemsize

    @property
    def image_bytes(self) -> int:
        """Bytes of one image's tokens over all blocks and kinds."""
        return self.n_blocks * sum(self.item_bytes(kind) for kind in self.kinds())


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
        kind: min(_power_of_two_below(chunk_bytes // shape.item_bytes(kind)), shard)
        for kind in shape.kinds()
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
