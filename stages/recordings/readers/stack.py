"""Images of a file that are held in memory as one stack."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.stimuli.stimuli import Stimuli, stimuli_from_array


class LoadedStack:
    """A reader of images by position, which loads their stack when first asked, once per process.

    Pickled to another process, it takes along how to load them and not the images.

    Parameters
    ----------
    load : callable
        A function of a module; it gives the array of shape (n_images, row, column).
    arguments : objects
        What it is called with.
    """

    def __init__(self, load: Callable[..., NDArray[Any]], *arguments: Any) -> None:
        self._made_by = load, *arguments
        self._lock = threading.Lock()
        self._images: NDArray[Any] | None = None

    def __reduce__(self) -> tuple[type[LoadedStack], tuple[Any, ...]]:
        return LoadedStack, self._made_by

    def __call__(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        """The images at positions of shape (n,), in their order."""
        return np.ascontiguousarray(self.images()[ids])

    def images(self) -> NDArray[Any]:
        """The stack as stored, of shape (n_images, row, column)."""
        with self._lock:
            if self._images is None:
                load, *arguments = self._made_by
                self._images = load(*arguments)
            return self._images

    def stimuli(self, source: str) -> Stimuli:
        """The images; the id is the position."""
        return replace(stimuli_from_array(self.images(), source=source), reader=self)
