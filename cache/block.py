"""One block of an open feature cache: lazy arrays, and rows by image id."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numpy.typing import NDArray

from cache.arguments import whole_number, whole_numbers
from cache.errors import CacheError
from cache.format.identity import content_key
from cache.format.images import SETS
from cache.format.layout import BlockShape, Places, TokenKind, token_path
from cache.read import read_rows
from cache.stores.zarr_internals import sync

if TYPE_CHECKING:
    import dask.array

    from cache.feature_cache import FeatureCache


@dataclass(frozen=True)
class Block:
    """One block of a cache."""

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

    @property
    def places(self) -> Places | None:
        """Places of the patches in the image; None where the store does not tell."""
        said = self.cache.store.attributes.get("places")
        if isinstance(said, list):
            said = said[self.index] if self.index < len(said) else None
        return Places.from_document(said)

    @property
    def shape(self) -> BlockShape:
        """Grid, width and places; without patches the grid is (1, 1)."""
        *_, width = self.array(self.cache.kinds[0]).shape
        rows, columns = self.patches.shape[1:3] if "patches" in self.cache.kinds else (1, 1)
        return BlockShape(grid=(rows, columns), n_channels=width, places=self.places)

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
        # Caches of one recipe hold other images, and dask takes one name for one content.
        content = content_key([self.cache.key, self.cache.store.attributes.get(SETS)])
        name = f"vitv1-{content[:16]}-{self._path(kind)}"
        lazy: dask.array.Array = dask.array.from_zarr(array, name=name)
        return lazy

    def _path(self, kind: TokenKind) -> str:
        self.cache.require_kind(kind)
        return token_path(self.index, kind)
