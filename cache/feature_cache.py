"""An open feature cache: lazy arrays by block, rows by image id."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numpy.typing import NDArray

from cache.arguments import whole_number, whole_numbers
from cache.errors import CacheError
from cache.format.layout import TOKEN_KINDS, Places, TokenKind, resolve_block, token_path
from cache.format.metadata import ROOT, read_root
from cache.read import read_rows
from cache.stores.address import public_name
from cache.stores.base import document
from cache.stores.location import open_store
from cache.stores.verifying import VerifyingStore
from cache.stores.zarr_internals import sync

if TYPE_CHECKING:
    import dask.array


@dataclass(frozen=True)
class Block:
    """One transformer block of a cache."""

    cache: FeatureCache
    index: int

    @property
    def patches(self) -> zarr.Array[Any]:
        """Lazy patch tokens, of shape (image, row, column, channel)."""
        return self.array("patches")

    @property
    def cls(self) -> zarr.Array[Any]:
        """Lazy CLS tokens, of shape (image, channel)."""
        return self.array("cls")

    @property
    def registers(self) -> zarr.Array[Any]:
        """Lazy register tokens, of shape (image, register, channel)."""
        return self.array("registers")

    def array(self, kind: TokenKind) -> zarr.Array[Any]:
        """The lazy array of one kind.

        Raises
        ------
        CacheError
            A kind that this store does not hold.
        """
        path = self._path(kind)
        # Before zarr takes memory for what the array claims to be.
        sync(self.cache.store.trusted(path))
        array = self.cache.group[path]
        assert isinstance(array, zarr.Array)
        return array

    def read(
        self, kind: TokenKind, images: Sequence[int] | NDArray[np.integer[Any]]
    ) -> NDArray[Any]:
        """Tokens of the given image ids, in the order asked, in the stored dtype.

        Parameters
        ----------
        images : sequence of int
            Image ids; duplicates are allowed. A mask, `cache.image_ids[mask]` chooses by.

        Returns
        -------
        array of shape (n, row, column, channel), (n, channel) or (n, register, channel)

        Raises
        ------
        CacheError
            Ids the store does not hold, or whose shard is not complete yet.
        UserError
            Masks, floats, and whatever else are no ids.
        """
        rows = self.cache.rows(images)
        return sync(read_rows(self.cache.store, self._path(kind), rows))

    def batches(
        self, kind: TokenKind, images: Sequence[int] | NDArray[np.integer[Any]], size: int
    ) -> Iterator[NDArray[Any]]:
        """`read` in parts: arrays of shape (size, ...), the last one shorter.

        Ids in the order of `FeatureCache.image_ids` are cheapest; scattered ones read a whole
        chunk for each.

        Raises
        ------
        CacheError, UserError
            As `read`, and before the first batch.
        """
        self.cache.require_kind(kind)
        ids, step = whole_numbers(images, "images"), whole_number(size, "size", least=1)
        self.cache.rows(ids)
        return (self.read(kind, ids[first : first + step]) for first in range(0, len(ids), step))

    def dask(self, kind: TokenKind) -> dask.array.Array:
        """A lazy dask array with the store's chunks; axes as of the zarr array.

        Raises
        ------
        CacheError
            A kind that this store does not hold, or dask is not installed.
        """
        try:
            import dask.array
        except ModuleNotFoundError:
            raise CacheError("dask is not installed: pip install 'dask[array]'") from None
        array = self.array(kind)
        name = f"vitv1-{self.cache.key[:16]}-{self._path(kind)}"
        lazy: dask.array.Array = dask.array.from_zarr(array, name=name)
        return lazy

    def _path(self, kind: TokenKind) -> str:
        self.cache.require_kind(kind)
        return token_path(self.index, kind)


class FeatureCache:
    """A store of tokens, opened read-only; see `open_cache`.

    Attributes
    ----------
    path : str
        As it was given, for opening it again; it may hold a password.
    name : str
        The path or URL as it may be shown and stored.
    key : str
        Identity: sha256 over everything that changes a token.
    settings, provenance : mapping
        What the key was made from, and how, when and with what the store was made.
    complete : bool
        Whether every shard was written.
    group : zarr group
        The store for zarr and dask; every read is verified.
    """

    def __init__(self, path: str, store: VerifyingStore) -> None:
        self.path = path
        self.name = public_name(path)
        self.store = store
        self.key = str(store.attributes["key"])
        self.settings: Mapping[str, Any] = store.attributes["settings"]
        self.provenance: Mapping[str, Any] = store.attributes["provenance"]
        self.complete = bool(store.attributes["complete"])
        self._contents: Mapping[str, Any] = store.attributes["contents"]
        self.group = zarr.open_group(store, mode="r", zarr_format=3, use_consolidated=False)
        if not self.complete:
            # What is written from now on is not seen: no reader gets half an answer.
            sync(store.shards_done())

    @cached_property
    def image_ids(self) -> NDArray[np.int64]:
        """Image id of every row, array of shape (n_images,), strictly increasing."""
        return sync(self.store.image_ids())

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
    def places(self) -> Places | None:
        """Places of the patches in the image; None where the store does not tell."""
        return Places.from_document(self.store.attributes.get("places"))

    @property
    def images_per_shard(self) -> int:
        """Images in every shard but the last."""
        return int(self._contents["images_per_shard"])

    @cached_property
    def shards_done(self) -> NDArray[np.bool_]:
        """Which shards are durably written, as of opening, array of shape (n_shards,)."""
        return sync(self.store.shards_done())

    def block(self, index: int) -> Block:
        """One block by its 0-based index; negative ones count from the last.

        Raises
        ------
        CacheError
            No such block in the backbone, or not in this (partial) store.
        UserError
            No whole number.
        """
        index = resolve_block(index, self.n_blocks)
        if index not in self.blocks:
            raise CacheError(
                f"{self.name} holds blocks {self.blocks} of {self.n_blocks}, not {index}: "
                f"vitv1 cache pull copies blocks from a complete one (--blocks {index})"
            )
        return Block(self, index)

    def require_kind(self, kind: TokenKind) -> None:
        """Refuse a kind that this store does not hold, with `CacheError`."""
        if kind not in self.kinds:
            raise CacheError(
                f"{self.name} holds {', '.join(self.kinds)} but no {kind}: ask for one of those"
            )

    def rows(self, images: Sequence[int] | NDArray[np.integer[Any]]) -> NDArray[np.intp]:
        """Rows of the given image ids, array of shape (n,), in the order asked.

        Raises
        ------
        CacheError
            Ids the store does not hold, or whose shard is not complete yet.
        UserError
            Masks, floats, and whatever else are no ids.
        """
        wanted = whole_numbers(images, "images")
        rows = np.searchsorted(self.image_ids, wanted)
        found = self.image_ids[np.minimum(rows, len(self.image_ids) - 1)] == wanted
        if not found.all():
            missing = wanted[~found]
            named = ", ".join(str(i) for i in missing[:5]) + (", ..." if len(missing) > 5 else "")
            raise CacheError(
                f"{self.name}: {len(missing)} of {len(wanted)} images are not in the cache "
                f"({named}): extract a cache of these stimuli, or check which images the recording "
                "names"
            )
        if not self.complete:
            unwritten = ~self.shards_done[rows // self.images_per_shard]
            if unwritten.any():
                raise CacheError(
                    f"{self.name} is incomplete: {int((~self.shards_done).sum())} of "
                    f"{len(self.shards_done)} shards are missing, and with them "
                    f"{int(unwritten.sum())} of the {len(wanted)} images asked for: "
                    "run vitv1 extract to finish it"
                )
        return rows


def open_cache(path_or_url: str, *, key: str | None = None) -> FeatureCache:
    """Open a feature cache for reading.

    Whatever is read is of the cache that was opened: where another one has taken its place since,
    reading fails.

    Parameters
    ----------
    path_or_url : str or path-like
        A directory or a packed file, or the http(s)://, s3:// or hf:// address of either.
    key : str, optional
        The key that it must have, such as that of the same cache when it was opened before.

    Raises
    ------
    CacheError
        Nothing there or not to be reached, not a feature cache, another format version, another
        key, or a damaged root.
    """
    path = str(path_or_url)
    name = public_name(path)
    store = open_store(path)
    root = sync(document(store, ROOT))
    if root is None:
        raise CacheError(
            f"{name}: no feature cache there; make it with vitv1 extract, or correct the path"
        )
    attributes = read_root(root, where=name)
    if key is not None and attributes["key"] != key:
        raise CacheError(
            f"{name} holds other tokens than before (key {attributes['key'][:12]}.., not "
            f"{key[:12]}..): it was replaced meanwhile; run again"
        )
    return FeatureCache(path, VerifyingStore(store, where=name, root=root, attributes=attributes))
