"""What stands for a cache that is not there, where images and weights tell what it would hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Uncached:
    """The identity of tokens that are computed as they are needed.

    Parameters
    ----------
    path : str
        Where a cache of them would be.
    key : str
        Its key.
    settings, provenance : mapping
        What its root would say.
    begun : bool
        It is there and will be finished before anything is computed from it.
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
