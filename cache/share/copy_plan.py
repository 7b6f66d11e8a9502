"""The plan of a copy of a cache, or of some of its blocks: its files and their sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cache.errors import CacheError
from cache.feature_cache import FeatureCache
from cache.format.arrays import StoredArray
from cache.format.layout import TokenKind
from cache.format.metadata import (
    ROOT,
    array_paths,
    document_paths,
    finished_attributes,
    read_root,
    root_bytes,
)
from cache.stores.base import concurrently, file_bytes
from cache.stores.verifying import VerifyingStore
from cache.stores.zarr_internals import sync


@dataclass(frozen=True, kw_only=True)
class Copy:
    """A complete cache to be made from `source`.

    Parameters
    ----------
    documents : dict
        Every zarr.json, path to bytes, the root first.
    arrays : sequence of StoredArray
        Every array, in the order of the format.
    """

    source: FeatureCache
    documents: dict[str, bytes]
    arrays: Sequence[StoredArray]

    @property
    def files(self) -> list[tuple[StoredArray, int]]:
        """Every file of chunks, as array and number."""
        return [(array, file) for array in self.arrays for file in range(array.n_files)]

    @property
    def contents(self) -> Mapping[str, Any]:
        """What the copy's root says that it holds."""
        root = read_root(self.documents[ROOT], where=self.source.name)
        contents: Mapping[str, Any] = root["contents"]
        return contents

    @property
    def n_bytes(self) -> int:
        """Bytes of all files of chunks."""
        return sum(array.n_bytes for array in self.arrays)


def plan_copy(
    source: FeatureCache,
    *,
    blocks: Sequence[int] | None = None,
    kinds: Sequence[TokenKind] | None = None,
) -> Copy:
    """Choose what to copy; the key stays, the metadata become those of a smaller cache.

    Parameters
    ----------
    blocks : sequence of int, optional
        0-based, negative ones from the last; all that `source` holds by default.
    kinds : sequence of str, optional
        "patches", "cls", "registers"; all that `source` holds by default.

    Raises
    ------
    CacheError
        An incomplete source, or one that lacks what is asked for.
    """
    if not source.complete:
        raise CacheError(
            f"{source.name} is incomplete, {int((~source.shards_done).sum())} of "
            f"{len(source.shards_done)} shards are missing: finish it with vitv1 extract first"
        )
    chosen = source.blocks if blocks is None else sorted({source.block(b).index for b in blocks})
    for kind in kinds or ():
        source.require_kind(kind)
    old = source.store.attributes
    held = [kind for kind in source.kinds if kinds is None or kind in kinds]
    per_chunk = {kind: old["contents"]["images_per_chunk"][kind] for kind in held}
    changed = {"blocks": chosen, "arrays": held, "images_per_chunk": per_chunk}
    contents = {**old["contents"], **changed}
    arrays, documents = sync(_fetched(source.store, contents))
    attributes = finished_attributes({**old, "contents": contents}, documents)
    return Copy(source=source, documents={ROOT: root_bytes(attributes), **documents}, arrays=arrays)


async def _fetched(
    store: VerifyingStore, contents: Mapping[str, Any]
) -> tuple[list[StoredArray], dict[str, bytes]]:
    """Every array, and every zarr.json but the root's by path."""
    await store.image_ids()
    # Few at a time: each may be as large as a zarr.json can be.
    paths = ((path,) for path in array_paths(contents))
    arrays = await concurrently(store.trusted, paths, at_once=6)
    documents: dict[str, bytes] = {}
    for path in document_paths(contents):
        content = await file_bytes(store, path)
        assert content is not None
        documents[path] = content
    return arrays, documents
