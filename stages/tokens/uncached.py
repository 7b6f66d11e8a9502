"""Identity of tokens that no complete cache holds, told from the images and the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cache import HashedImages


@dataclass(frozen=True, kw_only=True)
class Uncached:
    """Tokens that are computed as they are needed, or before anything is computed from them.

    Parameters
    ----------
    path : str
        Where a cache of them would be.
    key : str
        Its key.
    settings, provenance : mapping
        What its root would say.
    images : HashedImages, optional
        What is known of its images; None of a cache without hashes.
    begun : bool
        It is there, and will be finished before anything is computed from it.
    """

    path: str
    key: str
    settings: Mapping[str, Any]
    provenance: Mapping[str, Any]
    images: HashedImages | None = None
    begun: bool = False

    @property
    def n_blocks(self) -> int:
        """Blocks of the backbone."""
        return int(self.settings["backbone"]["n_blocks"])

    def block(self, index: int) -> None:
        """Nothing to open: every block can be computed."""

    def rows(self, images: NDArray[np.int64]) -> None:
        """Nothing to look up: the images themselves are at hand."""

    def images_digest(self, images: NDArray[np.int64]) -> str | None:
        """As `cache.FeatureCache.images_digest`."""
        return None if self.images is None else self.images.digest(images)
