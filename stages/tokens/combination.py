"""A combination: blocks of one or several caches whose tokens are read as one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cache import BlockShape, Places, TokenShape
from stages.conditions import JOINED


@dataclass(frozen=True, kw_only=True)
class CombinedBlock:
    """One block of one cache.

    Parameters
    ----------
    model : str
        What results call the backbone.
    block : int
        0-based.
    shape : BlockShape
        Of its tokens, with their places; CLS tokens are on a 1 x 1 grid.
    dtype : str
        Of the stored tokens.
    path, key, images_sha256 : str, optional
        The cache and its identity, as `stages.tokens.cached.open_planned` takes them. Absent until
        they are known; the hash of images also where the key tells them.
    """

    model: str
    block: int
    shape: BlockShape
    dtype: str
    path: str | None = None
    key: str | None = None
    images_sha256: str | None = None

    @property
    def name(self) -> str:
        """As experiment files name it, such as "vit_small_patch16_dinov3.lvd1689m:4"."""
        return f"{self.model}:{self.block}"

    def document(self) -> dict[str, Any]:
        """What decides its tokens, of types that JSON has."""
        places = self.shape.places
        return {
            "model": self.model,
            "block": self.block,
            "cache": self.key,
            **({} if self.images_sha256 is None else {"images": self.images_sha256}),
            "grid": list(self.shape.grid),
            "channels": self.shape.n_channels,
            "places": None if places is None else places.document(),
            "dtype": self.dtype,
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> CombinedBlock:
        """The source of a saved document."""
        rows, columns = document["grid"]
        shape = BlockShape(
            grid=(rows, columns),
            n_channels=document["channels"],
            places=Places.from_document(document["places"]),
        )
        known = {"key": document["cache"], "images_sha256": document.get("images")}
        return cls(
            model=document["model"],
            block=document["block"],
            shape=shape,
            dtype=document["dtype"],
            **known,
        )


@dataclass(frozen=True, kw_only=True)
class Combination:
    """Blocks whose tokens are brought to one grid, their channels concatenated.

    The grid is that of the source with the most tokens; of several, that of the first.

    Parameters
    ----------
    sources : tuple of CombinedBlock
    tokens : str
        "patch" or "cls": CLS tokens of several blocks need no common grid.
    resample : str
        "nearest" or "bilinear": how tokens at the places of that grid come from those of another.
    """

    sources: tuple[CombinedBlock, ...]
    tokens: str
    resample: str

    @property
    def name(self) -> str:
        """What results call it, in place of a model: every source, and how if not nearest."""
        how = "" if self.resample == "nearest" else f" ({self.resample})"
        return JOINED.join(source.name for source in self.sources) + how

    @property
    def finest(self) -> BlockShape:
        """The shape of the source with the most tokens."""
        shapes = [source.shape for source in self.sources]
        return max(shapes, key=lambda shape: shape.grid[0] * shape.grid[1])

    @property
    def channels(self) -> tuple[int, ...]:
        """How many each source has, in their order."""
        return tuple(source.shape.n_channels for source in self.sources)

    @property
    def shape(self) -> TokenShape:
        """The shape of its tokens, as of a backbone of one block."""
        finest = self.finest
        every = BlockShape(grid=finest.grid, n_channels=sum(self.channels), places=finest.places)
        narrow = all(source.dtype == "float16" for source in self.sources)
        return TokenShape.of_blocks(
            [every],
            n_registers=0,
            has_cls=self.tokens == "cls",
            dtype="float16" if narrow else "float32",
        )

    def document(self) -> dict[str, Any]:
        """What decides its tokens, of types that JSON has."""
        return {
            "tokens": self.tokens,
            "resample": self.resample,
            "sources": [source.document() for source in self.sources],
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Combination:
        """The combination of a saved document."""
        return cls(
            tokens=document["tokens"],
            resample=document["resample"],
            sources=tuple(map(CombinedBlock.from_document, document["sources"])),
        )
