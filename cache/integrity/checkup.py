"""The record of a checkup: what is known of a store and everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from zarr.abc.store import Store

from cache.format.arrays import StoredArray
from cache.format.faults import Fault


@dataclass(kw_only=True)
class Checkup:
    """Findings about one cache: begun by `check_metadata`, completed by `check_chunks`.

    Attributes
    ----------
    where : str
        Path or URL.
    attributes : mapping, optional
        The root's, where it is intact.
    ids, hashes : array of shape (n_images,) and (n_images, 32), optional
        Image id and hash of every row, where they are there and intact.
    faults : list of Fault
    unchecked : list of str
        What could not be looked at.
    arrays : dict
        Every array whose zarr.json is intact, by path.
    files : list of (StoredArray, int)
        Files of tokens that are there in full, for `check_chunks`.
    sound : set of (str, int)
        Path of the array and number of every file that `check_chunks` found intact.
    """

    where: str
    store: Store
    attributes: Mapping[str, Any] | None = None
    ids: NDArray[np.int64] | None = None
    hashes: NDArray[np.uint8] | None = None
    faults: list[Fault] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    arrays: dict[str, StoredArray] = field(default_factory=dict)
    files: list[tuple[StoredArray, int]] = field(default_factory=list)
    sound: set[tuple[str, int]] = field(default_factory=set)

    def note(self, path: str, problem: str) -> None:
        """Add a fault of the file at `path`."""
        # Messages whose lines all begin with the store's path need not repeat it.
        problem = problem.removeprefix(self.where).lstrip(": ")
        self.faults.append(Fault(path=path, problem=problem))
