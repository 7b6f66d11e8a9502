"""Descriptions of an open cache: one line, and a table for notebooks."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cache.feature_cache import FeatureCache


def one_line(cache: FeatureCache) -> str:
    """Such as "<FeatureCache features.zarr: ViT, 12 of 12 blocks, 260 images, complete>"."""
    facts = facts_of(cache)
    told = f"{facts['backbone']}, {facts['blocks']} blocks, {facts['images']} images"
    return f"<FeatureCache {cache.name}: {told}, {facts['state']}, key {cache.key[:12]}..>"


def table(cache: FeatureCache) -> str:
    """The same as HTML, in which names are text."""
    rows = "".join(
        f"<tr><th style='text-align: left'>{escape(name)}</th><td>{escape(value)}</td></tr>"
        for name, value in {**facts_of(cache), "key": cache.key}.items()
    )
    return f"<table><caption>FeatureCache {escape(cache.name)}</caption>{rows}</table>"


def facts_of(cache: FeatureCache) -> dict[str, str]:
    """What a person asks first, as text; no token is read."""
    blocks = [cache.block(index) for index in cache.blocks]
    arrays = [
        f"{kind} {' to '.join(sizes)} {held[0].dtype}"
        for kind in cache.kinds
        for held in [[block.array(kind) for block in blocks]]
        # Neighbouring blocks that are alike are told once.
        for sizes in [dict.fromkeys(" x ".join(map(str, array.shape[1:])) for array in held)]
    ]
    backbone, done = cache.settings.get("backbone", {}), cache.shards_done
    unfinished = f"incomplete, {int((~done).sum())} of {len(done)} shards are missing"
    others = "other images can be added" if cache.hashed else "serves its own images only"
    return {
        "backbone": str(backbone.get("name", "unknown")),
        "blocks": f"{len(cache.blocks)} of {cache.n_blocks}",
        "images": f"{len(cache.image_ids):,}",
        "of each": ", ".join(arrays),
        "state": "complete" if cache.complete else unfinished,
        "recordings": others,
    }
