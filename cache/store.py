"""Reading a feature cache: lazy arrays by block, selection by image id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from cache.errors import CacheError
from cache.identity import key_of
from cache.layout import TOKEN_KINDS, TokenKind
from cache.plan import plan_reads

FORMAT = "vitv1-feature-cache"
FORMAT_VERSION = 1

#: Bytes read at a time beyond the result itself.
READ_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Block:
    """One transformer block of a cache.

    `patches`, `cls` and `registers` are lazy zarr arrays of shapes (image, row, column, channel),
    (image, channel) and (image, register, channel).
    """

    cache: FeatureCache
    index: int

    @property
    def patches(self) -> zarr.Array[Any]:
        """Patch tokens, (image, row, column, channel)."""
        return self.array("patches")

    @property
    def cls(self) -> zarr.Array[Any]:
        """CLS tokens, (image, channel)."""
        return self.array("cls")

    @property
    def registers(self) -> zarr.Array[Any]:
        """Register tokens, (image, register, channel)."""
        return self.array("registers")

    def array(self, kind: TokenKind) -> zarr.Array[Any]:
        """The lazy array of one kind.

        Raises
        ------
        CacheError
            A kind that this store does not hold.
        """
        held = self.cache.kinds
        if kind not in held:
            raise CacheError(
                f"{self.cache.path} holds {', '.join(held)} but no {kind}: ask for one of those"
            )
        array = self.cache.group[f"blocks/{self.index:02d}/{kind}"]
        assert isinstance(array, zarr.Array)
        return array

    def read(
        self, kind: TokenKind, images: Sequence[int] | NDArray[np.integer[Any]]
    ) -> NDArray[Any]:
        """Tokens of the given image ids, in the order asked, in the stored dtype.

        Parameters
        ----------
        images : sequence of int
            Image ids; duplicates are allowed.

        Returns
        -------
        array of shape (n, row, column, channel), (n, channel) or (n, register, channel)

        Raises
        ------
        CacheError
            Ids the store does not hold, or whose shard is not complete yet.
        """
        rows = self.cache.rows(images)
        array = self.array(kind)
        out = np.empty((len(rows), *array.shape[1:]), dtype=array.dtype)
        item_bytes = max(1, int(np.prod(array.shape[1:])) * array.dtype.itemsize)
        for read in plan_reads(
            rows, chunk=array.chunks[0], max_rows=max(1, READ_BYTES // item_bytes)
        ):
            tokens = array[read.first : min(read.last, array.shape[0])]
            out[read.put] = np.asarray(tokens)[read.take]
        return out


class FeatureCache:
    """A store of tokens, opened read-only; see `open_cache`.

    Attributes
    ----------
    path : str
        Directory or URL.
    key : str
        Identity: sha256 over everything that changes a token.
    settings, provenance : mapping
        What the key was made from, and how, when and with what the store was made.
    complete : bool
        Whether every shard was written.
    """

    def __init__(self, path: str, group: zarr.Group) -> None:
        self.path = path
        self.group = group
        attributes = group.attrs.asdict()
        if attributes.get("format") != FORMAT:
            raise CacheError(f"{path} is a zarr store but no feature cache: check the path")
        version = attributes.get("format_version")
        if version != FORMAT_VERSION:
            raise CacheError(
                f"{path} has cache format {version}, this vitv1 reads format {FORMAT_VERSION}: "
                "install the newest vitv1, or extract the cache again"
            )
        try:
            self.key = str(attributes["key"])
            self.settings: Mapping[str, Any] = attributes["settings"]  # type: ignore[assignment]
            self.provenance: Mapping[str, Any] = attributes["provenance"]  # type: ignore[assignment]
            self.complete = bool(attributes["complete"])
            self._contents: Mapping[str, Any] = attributes["contents"]  # type: ignore[assignment]
        except KeyError as missing:
            raise CacheError(
                f"{path}: its attributes lack {missing}; the store is damaged: fetch it again, or "
                "extract it again"
            ) from None
        if key_of(self.settings) != self.key:
            raise CacheError(
                f"{path}: its settings do not give its key; the store was changed by hand or "
                "damaged: fetch or extract it again"
            )

    @cached_property
    def image_ids(self) -> NDArray[np.int64]:
        """Image id of every row, array of shape (n_images,), strictly increasing."""
        return np.asarray(self._root_array("image")[:], dtype=np.int64)

    @property
    def n_blocks(self) -> int:
        """Blocks of the backbone, whether this store holds them or not."""
        return int(self.settings["backbone"]["n_blocks"])

    @property
    def blocks(self) -> list[int]:
        """Blocks that this store holds."""
        return [int(b) for b in self._contents["blocks"]]

    @property
    def kinds(self) -> list[TokenKind]:
        """Arrays that every held block has."""
        return [kind for kind in TOKEN_KINDS if kind in self._contents["arrays"]]

    @property
    def images_per_shard(self) -> int:
        """Images in every shard but the last."""
        return int(self._contents["images_per_shard"])

    @cached_property
    def shards_done(self) -> NDArray[np.bool_]:
        """Which shards are durably written, as of opening, array of shape (n_shards,)."""
        return np.asarray(self._root_array("progress")[:] == 1, dtype=np.bool_)

    def block(self, index: int) -> Block:
        """One block by its 0-based index; negative ones count from the last.

        Raises
        ------
        CacheError
            No such block in the backbone, or not in this (partial) store.
        """
        index = resolve_block(index, self.n_blocks)
        if index not in self.blocks:
            raise CacheError(
                f"{self.path} holds blocks {self.blocks} of {self.n_blocks}, not {index}: "
                "copy it from the complete cache"
            )
        return Block(self, index)

    def rows(self, images: Sequence[int] | NDArray[np.integer[Any]]) -> NDArray[np.intp]:
        """Rows of the given image ids, array of shape (n,), in the order asked.

        Raises
        ------
        CacheError
            Ids the store does not hold, or whose shard is not complete yet.
        """
        wanted = np.asarray(images, dtype=np.int64)
        rows = np.searchsorted(self.image_ids, wanted)
        found = self.image_ids[np.minimum(rows, len(self.image_ids) - 1)] == wanted
        if not found.all():
            missing = wanted[~found]
            named = ", ".join(str(i) for i in missing[:5]) + (", ..." if len(missing) > 5 else "")
            raise CacheError(
                f"{self.path}: {len(missing)} of {len(wanted)} images are not in the cache "
                f"({named}): extract a cache of these stimuli, or check which images the recording "
                "names"
            )
        if not self.complete:
            unwritten = ~self.shards_done[rows // self.images_per_shard]
            if unwritten.any():
                raise CacheError(
                    f"{self.path} is incomplete: {int((~self.shards_done).sum())} of "
                    f"{len(self.shards_done)} shards are missing, and with them "
                    f"{int(unwritten.sum())} of the {len(wanted)} images asked for: "
                    "run vitv1 extract to finish it"
                )
        return rows

    def _root_array(self, name: str) -> zarr.Array[Any]:
        array = self.group[name]
        assert isinstance(array, zarr.Array)
        return array


def resolve_block(index: int, n_blocks: int) -> int:
    """A block's 0-based index from one that may be negative.

    Raises
    ------
    CacheError
        "block 14 of 12: 0..11 or -12..-1".
    """
    if not -n_blocks <= index < n_blocks:
        raise CacheError(
            f"block {index} of {n_blocks}: choose 0..{n_blocks - 1} or -{n_blocks}..-1"
        )
    return index % n_blocks


def open_cache(path_or_url: str) -> FeatureCache:
    """Open a feature cache for reading.

    Parameters
    ----------
    path_or_url : str or path-like
        A directory, or a URL that fsspec can read.

    Raises
    ------
    CacheError
        Nothing there, not a feature cache, or another format version.
    """
    path = str(path_or_url)
    try:
        group = zarr.open_group(path, mode="r", zarr_format=3, use_consolidated=False)
    except (FileNotFoundError, NotADirectoryError):
        raise CacheError(
            f"{path}: no feature cache there; make it with vitv1 extract, or correct the path"
        ) from None
    return FeatureCache(path, group)
