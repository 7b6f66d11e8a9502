"""Images by id and by content: those that are wanted, compared with those that a cache holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cache.arguments import as_array, whole_numbers
from cache.errors import CacheError, UserError
from cache.format.images import HASH_BYTES, digest_of_images

if TYPE_CHECKING:
    from cache.feature_cache import FeatureCache


@dataclass(frozen=True)
class HashedImages:
    """Images by id and by content.

    Parameters
    ----------
    ids : array of shape (n_images,)
        Each once.
    hashes : array of shape (n_images, 32)
        SHA-256 of each raw image, from `cache.image_sha256`.
    """

    ids: NDArray[np.int64]
    hashes: NDArray[np.uint8]

    @property
    def set(self) -> dict[str, Any]:
        """What a root says of them."""
        return {"count": len(self.ids), "sha256": digest_of_images(self.ids, self.hashes)}

    def digest(self, ids: NDArray[np.int64]) -> str | None:
        """As `FeatureCache.images_digest`; None where one of them is not among these."""
        order = np.argsort(self.ids)
        places = np.minimum(np.searchsorted(self.ids, ids, sorter=order), len(order) - 1)
        found = order[places]
        if (self.ids[found] != ids).any():
            return None
        return digest_of_images(ids, self.hashes[found])

    def lacking(self, held: HashedImages, *, where: str) -> HashedImages:
        """Those that a cache does not hold.

        Raises
        ------
        CacheError
            It holds other pictures under the same ids.
        """
        _, here, there = np.intersect1d(self.ids, held.ids, return_indices=True)
        other = (self.hashes[here] != held.hashes[there]).any(axis=1)
        if other.any():
            raise CacheError(
                f"{where}: {int(other.sum()):,} of {len(self.ids):,} images are other pictures "
                f"there, the first has id {self.ids[here][other][0]}: name another [cache] path"
            )
        rest = ~np.isin(self.ids, held.ids)
        return HashedImages(self.ids[rest], self.hashes[rest])

    def require(
        self,
        held: HashedImages,
        shards: Sequence[int] | NDArray[np.intp],
        *,
        per_shard: int,
        where: str,
    ) -> None:
        """Refuse, with `CacheError`, where the images of some shards of a cache are not here."""
        self.lacking(held, where=where)
        asked = np.isin(np.arange(len(held.ids)) // per_shard, shards)
        absent = int((~np.isin(held.ids[asked], self.ids)).sum())
        if absent:
            raise CacheError(
                f"{where} is to be finished, and {absent:,} images that it lacks are none of this "
                "experiment's: finish it with the experiment that began it, or vitv1 extract "
                "--replace"
            )


def images_of(cache: FeatureCache) -> HashedImages:
    """The images of a cache; `CacheError` where it has no hashes of them."""
    # Ids first: of a cache that grows meanwhile, hashes of later ones may be there, not fewer.
    ids, hashes = cache.image_ids, cache.image_sha256
    if hashes is None:
        raise CacheError(
            f"{cache.name} has no hashes of its images, so it serves those alone that it was made "
            "from, and all of them: name another [cache] path"
        )
    return HashedImages(ids, hashes[: len(ids)])


def as_images(ids: Any, hashes: Any) -> HashedImages:
    """Images of given ids and hashes; `UserError` where the hashes are no array of that shape."""
    ids, hashes = whole_numbers(ids, "ids"), as_array(hashes, "image_sha256", ("image", "byte"))
    if hashes.shape != (len(ids), HASH_BYTES) or hashes.dtype != np.uint8:
        raise UserError(
            f"image_sha256 has shape {hashes.shape} and dtype {hashes.dtype}: pass one SHA-256 per "
            f"image, uint8 of shape ({len(ids)}, {HASH_BYTES})"
        )
    return HashedImages(ids, hashes)
