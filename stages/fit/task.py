"""One condition to be fitted from a cache, and everything its result depends on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache import Places, content_key
from stages.conditions import Condition
from stages.readouts.settings import ReadoutSettings
from stages.readouts.solvers import SOLVERS
from stages.recordings.recording import Recording
from stages.spread import response_scale, scale_inputs
from stages.tokens.combination import Combination

#: Raised whenever the same settings give other numbers than before: old results are refitted.
RESULT_VERSION = 5


@dataclass(frozen=True, kw_only=True)
class FitTask:
    """One condition to be fitted from a cache.

    Parameters
    ----------
    condition : Condition
        With tokens, block, solver and seed set.
    cache_path : str
        Where the tokens are.
    cache_key, images_sha256 : str, str or None
        The cache's identity, and that of the recording's images in it; None where the first tells
        both.
    weights : str
        What the results say of the backbone's weights.
    recording : Recording
        Responses as recorded.
    recording_digest : str
        From `digest_recording`.
    settings : ReadoutSettings
        The solver's settings among them.
    combined : Combination, optional
        What is read instead of the condition's blocks; path and key are then of the first source
        and of all.
    places : Places, optional
        Where the tokens lie in the image, for maps.
    network : mapping
        What the backbone sees, from `backbone_record`; saved with the result.
    device : str
        "cpu" or a CUDA device.
    memory_limit : int, optional
        Bytes that the process may use; changes no result.
    """

    condition: Condition
    cache_path: str
    cache_key: str
    weights: str
    recording: Recording
    recording_digest: str
    settings: ReadoutSettings
    combined: Combination | None = None
    places: Places | None = None
    images_sha256: str | None = None
    network: Mapping[str, Any] = field(default_factory=dict)
    device: str = "cpu"
    memory_limit: int | None = None

    @property
    def inputs(self) -> dict[str, Any]:
        """Everything the result depends on."""
        images = {} if self.images_sha256 is None else {"images": self.images_sha256}
        combined = {} if self.combined is None else {"combined": self.combined.document()}
        return {
            "condition": self.condition.identity(),
            "cache": self.cache_key,
            **images,
            **combined,
            "recording": self.recording_digest,
            "solver": SOLVERS[self.settings.solver].identity(self.settings.of_solver),
            "version": RESULT_VERSION,
        } | scale_inputs(self.recording.spread, floor=self._floor)

    @property
    def scale(self) -> NDArray[np.float32]:
        """What responses are divided by, array of shape (n_neurons,)."""
        return response_scale(self.recording.spread, floor=self._floor)

    @property
    def _floor(self) -> float | None:
        return SOLVERS[self.settings.solver].floor

    @property
    def needs(self) -> dict[Condition, str]:
        """No other condition."""
        return {}

    @property
    def products(self) -> tuple[Path, ...]:
        """No file but those that all conditions save."""
        return ()

    def clean_up(self) -> None:
        """Nothing is left to remove."""

    @property
    def key(self) -> str:
        """Hash of everything the result depends on."""
        return content_key(self.inputs)
