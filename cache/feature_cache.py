"""An open feature cache: what it holds, and its rows by image id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from cache.arguments import whole_numbers
from cache.block import Block
from cache.errors import CacheError
from cache.format.images import HASHES, digest_of_images, is_hashed
from cache.format.layout import TOKEN_KINDS, Places, TokenKind, TokenShape, resolve_block
from cache.format.metadata import ROOT, read_root
from cache.show import one_line, table
from cache.stores.address import public_name
from cache.stores.base import document
from cache.stores.location import open_store
from cache.stores.verifying import VerifyingStore
from cache.stores.zarr_internals import sync


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

    def __repr__(self) -> str:
        return one_line(self)

    def _repr_html_(self) -> str:
        return table(self)

    @cached_property
    def image_ids(self) -> NDArray[np.int64]:
        """Image id of every row, array of shape (n_images,), each once.

        They increase, but where images were appended.
        """
        return sync(self.store.image_ids())

    @property
    def hashed(self) -> bool:
        """Whether it tells its images apart by hashes, and so serves any of them."""
        return is_hashed(self.store.attributes)

    @cached_property
    def image_sha256(self) -> NDArray[np.uint8] | None:
        """Hash of the raw image of every row, array of shape (n_images, 32).

        None in a cache without hashes: it serves only the images that its settings name.
        """
        return sync(self.store.image_sha256())

    def images_digest(self, images: Sequence[int] | NDArray[np.integer[Any]]) -> str | None:
        """Hash of the content of some images; None in a cache without hashes.

        Raises
        ------
        CacheError, UserError
            As `rows`.
        """
        rows, hashes = self.rows(images), self.image_sha256
        return None if hashes is None else digest_of_images(self.image_ids[rows], hashes[rows])

    @cached_property
    def _order(self) -> NDArray[np.intp]:
        """Rows by increasing id."""
        return np.argsort(self.image_ids, kind="stable")

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
    def has_cls(self) -> bool:
        """Whether the backbone has a CLS token, be it in this (partial) store or not."""
        return self.store.attributes.get("has_cls", True) is not False

    @property
    def places(self) -> Places | None:
        """Places of the patches of all blocks; None where the store does not tell.

        Or where blocks differ: see `Block.places`.
        """
        return Places.from_document(self.store.attributes.get("places"))

    @property
    def token_shape(self) -> TokenShape:
        """Shape of one image's tokens, as far as this store holds them.

        Blocks that it does not hold are taken to be as the first that it does; without patches the
        grid is (1, 1).
        """
        kinds, first = self.kinds, self.block(self.blocks[0])
        # From a URL, each array that is asked takes a request.
        differing = self.blocks if self.store.attributes.get("blocks_differ") else ()
        shapes = {index: self.block(index).shape for index in differing}
        own = first.shape
        return TokenShape.of_blocks(
            [shapes.get(b, own) for b in range(self.n_blocks)],
            n_registers=first.array("registers").shape[1] if "registers" in kinds else 0,
            has_cls=self.has_cls,
            dtype=str(first.array(kinds[0]).dtype),
        )

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
        places = np.searchsorted(self.image_ids, wanted, sorter=self._order)
        rows = self._order[np.minimum(places, len(self._order) - 1)]
        found = self.image_ids[rows] == wanted
        if not found.all():
            missing = wanted[~found]
            named = ", ".join(str(i) for i in missing[:5]) + (", ..." if len(missing) > 5 else "")
            raise CacheError(
                f"{self.name}: {len(missing)} of {len(wanted)} images are not in the cache "
                f"({named}): vitv1 extract adds them, or check which images the recording names"
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


def has_hashes(path: str) -> bool:
    """Whether a cache at a local path tells its images apart by hashes; new ones do.

    Of a damaged one, whether there are any.
    """
    if not Path(path).exists():
        return True
    try:
        return open_cache(path).hashed
    except CacheError:
        return (Path(path) / HASHES).exists()
