"""Identity of tokens that no complete cache holds, told from the images and the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


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
    begun : bool
        It is there, and will be finished before anything is computed from it.
    """

    path: str
    key: str
    settings: Mapping[str, Any]
    provenance: Mapping[str, Any]
    begun: bool = False

    @property
    def n_blocks(self) -> int:
        """Blocks of the backbone."""
        return int(self.settings["backbone"]["n_blocks"])

    def block(self, index: int) -> None:
        """Nothing to open: every block can be computed."""

    def rows(self, images: NDArray[np.int64]) -> None:
        """Nothing to look up: the images themselves are at hand."""
