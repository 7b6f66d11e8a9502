"""A description of a cache, from its metadata alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cache.feature_cache import FeatureCache
from cache.format.identity import DESCRIPTIVE
from cache.format.metadata import array_paths
from cache.stores.zarr_internals import sync


def cache_info(cache: FeatureCache) -> dict[str, Any]:
    """Sizes, completeness, settings and provenance, as JSON holds them.

    Sizes are exact: the format leaves no choice in them. No token is read, so this is quick on a
    URL; whether the bytes are there and intact is what `cache.integrity.verify` tells.

    Returns
    -------
    dict
        `bytes` and `files` count the tokens' files, `blocks` maps a block to the bytes of each of
        its arrays, `shapes` to their shapes without the images, and `arrays` has those of the first
        block that is held. `hashed` tells whether other images can be added. `settings` leave out
        what is only there to describe differences.
    """
    attributes = cache.store.attributes
    arrays = [sync(cache.store.trusted(path)) for path in array_paths(attributes["contents"])]
    tokens = {array.tokens: array for array in arrays if array.tokens is not None}
    missing = int((~cache.shards_done).sum())
    return {
        "path": cache.name,
        "key": cache.key,
        "format_version": attributes["format_version"],
        "complete": cache.complete,
        "shards": {"total": len(cache.shards_done), "missing": missing},
        "images": len(cache.image_ids),
        "hashed": cache.hashed,
        "bytes": sum(array.n_bytes for array in tokens.values()),
        "files": sum(array.n_files for array in tokens.values()),
        "blocks": {
            str(block): {kind: tokens[block, kind].n_bytes for kind in cache.kinds}
            for block in cache.blocks
        },
        "n_blocks": cache.n_blocks,
        "arrays": {
            kind: {
                "shape": list(array.shape),
                "dtype": array.dtype,
                "images_per_chunk": array.rows_per_chunk,
                "images_per_shard": array.rows_per_shard,
            }
            for kind in cache.kinds
            for array in [tokens[cache.blocks[0], kind]]
        },
        "shapes": {
            str(block): {kind: list(tokens[block, kind].shape[1:]) for kind in cache.kinds}
            for block in cache.blocks
        },
        "settings": _without(cache.settings, DESCRIPTIVE),
        "provenance": dict(cache.provenance),
    }


def _without(settings: Mapping[str, Any], left_out: tuple[str, ...], prefix: str = "") -> Any:
    return {
        name: _without(value, left_out, f"{prefix}{name}.") if isinstance(value, Mapping) else value
        for name, value in settings.items()
        if f"{prefix}{name}" not in left_out
    }
