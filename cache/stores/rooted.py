"""A store whose root was read: its other zarr.json, and what became of it since."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from zarr.abc.store import Store
from zarr.storage import WrapperStore

from cache.errors import CacheError
from cache.format.arrays import StoredArray
from cache.format.images import SETS, continues
from cache.format.metadata import ROOT, read_root
from cache.stores.base import document

#: Bytes of all zarr.json files of one cache that are read: those of one of 100 TB fit in.
DOCUMENTS_LIMIT = 128 * 2**20

REMEDY = "vitv1 cache verify names every fault, vitv1 cache repair or a new copy mends them"

T = TypeVar("T")


class RootedStore(WrapperStore[Store]):
    """A wrapped store that stays the one that was opened, or has grown by what was appended.

    Parameters are those of `cache.stores.verifying.VerifyingStore`.
    """

    def __init__(
        self, store: Store, *, where: str, root: bytes, attributes: Mapping[str, Any]
    ) -> None:
        super().__init__(store)
        self.where = where
        self.attributes = attributes
        self._complete = bool(attributes["complete"])
        self._documents: dict[str, bytes] = {ROOT: root}
        self._arrays: dict[str, StoredArray] = {}
        self._ids: NDArray[np.int64] | None = None
        self._growth = 0

    def _with_store(self, store: Store) -> Self:
        root = self._documents[ROOT]
        return type(self)(store, where=self.where, root=root, attributes=self.attributes)

    async def _document(self, key: str) -> bytes | None:
        if key in self._documents:
            return self._documents[key]
        expected = self.attributes["metadata_sha256"].get(key) if self._complete else None
        if self._complete and expected is None:
            return None
        content = await document(self._store, key)
        if content is None and not self._complete:
            return None
        if content is None or (self._complete and hashlib.sha256(content).hexdigest() != expected):
            found = "is absent" if content is None else "was changed since it was written"
            await self._require_same()
            raise CacheError(f"{self.where}: {key} {found}; {REMEDY}")
        if not self._complete:
            await self._require_same()
        self._documents[key] = content
        if sum(map(len, self._documents.values())) > DOCUMENTS_LIMIT:
            raise CacheError(
                f"{self.where}: its zarr.json files have over {DOCUMENTS_LIMIT >> 20} MiB, more "
                "than those of any cache: take it from elsewhere"
            )
        return content

    async def _following(self, read: Callable[[], Awaitable[T]]) -> T:
        """What is read, if need be once more of the store as it has grown since it was opened."""
        growth = self._growth
        try:
            return await read()
        except CacheError:
            if growth == self._growth and not await self._has_grown(growth):
                raise
            return await read()

    async def _has_grown(self, growth: int) -> bool:
        """Take up what was appended to a finished store; whether that was the case."""
        root = await document(self._store, ROOT)
        if growth != self._growth:
            return True
        if not (self._complete and SETS in self.attributes) or root == self._documents[ROOT]:
            return False
        with suppress(CacheError):
            attributes = read_root(root or b"", where=self.where)
            if attributes["complete"] and continues(attributes, self.attributes):
                self.attributes, self._documents = attributes, {ROOT: root or b""}
                self._arrays, self._ids = {}, None
                self._growth += 1
                return True
        return False

    async def _require_same(self) -> None:
        """Refuse another store in the place of the one that was opened, or none at all.

        The same one may have grown.
        """
        root = await document(self._store, ROOT)
        if root == self._documents[ROOT]:
            return
        with suppress(CacheError):
            if root and continues(read_root(root, where=self.where), self.attributes):
                return
        raise CacheError(
            f"{self.where} is not the cache any more that was opened: it was replaced or moved "
            "meanwhile; run again"
        )
