"""The images that a writer wants in a store, compared with those that the store holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.arguments import as_array
from cache.errors import CacheError, UserError
from cache.feature_cache import FeatureCache
from cache.format.images import HASH_BYTES, digest_of_images


@dataclass(frozen=True)
class Images:
    """Images by id and by content.

    Parameters
    ----------
    ids : array of shape (n_images,)
        Each once.
    hashes : array of shape (n_images, 32)
        SHA-256 of each raw image.
    """

    ids: NDArray[np.int64]
    hashes: NDArray[np.uint8]

    @property
    def set(self) -> dict[str, Any]:
        """What a root says of them."""
        return {"count": len(self.ids), "sha256": digest_of_images(self.ids, self.hashes)}

    def lacking(self, cache: FeatureCache) -> Images:
        """Those that a cache does not hold.

        Raises
        ------
        CacheError
            It has no hashes, or other pictures under the same ids.
        """
        if cache.image_sha256 is None:
            raise CacheError(
                f"{cache.name} has no hashes of its images, so it serves those alone that it was "
                "made from: name another [cache] path"
            )
        _, here, there = np.intersect1d(self.ids, cache.image_ids, return_indices=True)
        other = (self.hashes[here] != cache.image_sha256[there]).any(axis=1)
        if other.any():
            raise CacheError(
                f"{cache.name}: {int(other.sum()):,} of {len(self.ids):,} images are other "
                f"pictures there, the first has id {self.ids[here][other][0]}: name another "
                "[cache] path"
            )
        rest = ~np.isin(self.ids, cache.image_ids)
        return Images(self.ids[rest], self.hashes[rest])

    def require_fit(self, cache: FeatureCache, missing: Sequence[int] | NDArray[np.intp]) -> None:
        """Refuse, with `CacheError`, a cache that these cannot go into.

        As `lacking`; besides, the images of the shards that are `missing` in it must be here.
        """
        self.lacking(cache)
        size = cache.images_per_shard
        unwritten = np.isin(np.arange(len(cache.image_ids)) // size, missing)
        absent = int((~np.isin(cache.image_ids[unwritten], self.ids)).sum())
        if absent:
            raise CacheError(
                f"{cache.name} is not finished, and {absent:,} images that it lacks are none of "
                "this experiment's: finish it with vitv1 extract and the experiment that began it, "
                "or vitv1 extract --replace"
            )


def as_hashes(values: Any, n_images: int) -> NDArray[np.uint8]:
    """Hashes of so many images; `UserError` where it is no array of that shape."""
    hashes = as_array(values, "image_sha256", ("image", "byte"))
    if hashes.shape != (n_images, HASH_BYTES) or hashes.dtype != np.uint8:
        raise UserError(
            f"image_sha256 has shape {hashes.shape} and dtype {hashes.dtype}: pass one SHA-256 per "
            f"image, uint8 of shape ({n_images}, {HASH_BYTES})"
        )
    return hashes
