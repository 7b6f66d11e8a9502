"""What a copy of a cache, or of some blocks of it, consists of."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cache.errors import CacheError
from cache.feature_cache import FeatureCache
from cache.format.layout import TOKEN_KINDS, TokenKind
from cache.format.metadata import ROOT, array_paths, document_paths, finished_attributes, root_bytes
from cache.stores.base import file_bytes
from cache.stores.verifying import Trusted
from cache.stores.zarr_internals import sync


@dataclass(frozen=True, kw_only=True)
class Copy:
    """A complete cache to be made from another.

    Parameters
    ----------
    source : FeatureCache
        What is copied.
    documents : dict
        Every zarr.json, path to bytes, the root first.
    arrays : sequence of Trusted
        Every array, in the order of the format.
    """

    source: FeatureCache
    documents: dict[str, bytes]
    arrays: Sequence[Trusted]

    @property
    def files(self) -> list[tuple[Trusted, int]]:
        """Every file of chunks, as array and number."""
        return [(each, file) for each in self.arrays for file in range(each.array.n_files)]

    @property
    def n_bytes(self) -> int:
        """Bytes of all files of chunks."""
        return sum(each.array.file_size(file) for each, file in self.files)


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
        if kind not in source.kinds:
            raise CacheError(
                f"{source.name} holds {', '.join(source.kinds)} but no {kind}: ask for one of those"
            )
    old = source.store.attributes
    arrays = [k for k in TOKEN_KINDS if k in (source.kinds if kinds is None else kinds)]
    per_chunk = {kind: old["contents"]["images_per_chunk"][kind] for kind in arrays}
    contents = {**old["contents"], "blocks": chosen, "arrays": arrays}
    contents["images_per_chunk"] = per_chunk
    trusted = sync(_trusted(source, list(array_paths(contents))))
    documents = {path: _document(source, path) for path in document_paths(contents)}
    attributes = finished_attributes({**old, "contents": contents}, documents)
    return Copy(
        source=source,
        documents={ROOT: root_bytes(attributes), **documents},
        arrays=trusted,
    )


def require_space(needed: int, place: Path) -> None:
    """Check that a disk has room.

    Raises
    ------
    CacheError
        It has not.
    """
    there = next(p for p in (place.absolute(), *place.absolute().parents) if p.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise CacheError(
            f"{place} needs {needed / 1e9:.2f} GB and its disk has {free / 1e9:.2f} GB free: make "
            "room, or choose another place or fewer blocks"
        )


async def _trusted(source: FeatureCache, paths: list[str]) -> list[Trusted]:
    await source.store.image_ids()
    return list(await asyncio.gather(*(source.store.trusted(path) for path in paths)))


def _document(source: FeatureCache, path: str) -> bytes:
    content = sync(file_bytes(source.store, path))
    assert content is not None
    return content
