"""One variant of an experiment, as stages see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cache import FeatureCache, TokenShape
    from stages.backbones.settings import BackboneSettings
    from stages.extract.settings import CacheSettings
    from stages.readouts.settings import ReadoutSettings
    from stages.recordings.recording import Recording
    from stages.recordings.recording_format import RecordingSizes
    from stages.recordings.settings import RecordingSettings
    from stages.stimuli.settings import StimuliSettings
    from stages.stimuli.stimuli import Stimuli
    from stages.tokens.uncached import Uncached


class Settings(Protocol):
    """The tables of an experiment that all stages share; each stage's own bears its name."""

    @property
    def stimuli(self) -> StimuliSettings:
        """Which images."""

    @property
    def recording(self) -> Sequence[RecordingSettings]:
        """Which recordings."""

    @property
    def backbone(self) -> BackboneSettings:
        """Which backbone."""

    @property
    def cache(self) -> CacheSettings:
        """How tokens are stored."""

    @property
    def readout(self) -> ReadoutSettings:
        """Which readouts."""


class Variant(Protocol):
    """One variant of an experiment: its settings, and its files as far as they are there."""

    @property
    def settings(self) -> Settings:
        """The experiment's tables."""

    @property
    def seed(self) -> int:
        """Seed of everything random."""

    @property
    def model(self) -> str:
        """What results call the backbone."""

    @property
    def siblings(self) -> Sequence[Variant]:
        """The variants of the same size of images and the same seed, itself among them."""

    @property
    def output(self) -> Path:
        """The run's folder."""

    @property
    def device(self) -> str:
        """Where a task computes, such as "cpu"."""

    @property
    def readouts(self) -> Sequence[ReadoutSettings]:
        """Frozen readouts to fit: the experiment's, and those that other stages start from."""

    @property
    def sizes(self) -> Sequence[RecordingSizes]:
        """What each recording holds: counted, or as the experiment file expects it."""

    @property
    def recordings(self) -> Sequence[Recording]:
        """All recordings, with the chosen neurons."""

    @property
    def stimuli(self) -> Stimuli | None:
        """The images, where they are at hand."""

    @property
    def crop(self) -> tuple[int, int] | None:
        """Raw columns that the backbone sees; None where only the images tell."""

    @property
    def image_shape(self) -> tuple[int, int] | None:
        """Rows and columns of a raw image; None where that cannot be told."""

    @property
    def planted(self) -> bool:
        """Whether neurons are planted in the tokens of the cache."""

    @property
    def cache_name(self) -> str:
        """What plans and messages call the cache."""

    @property
    def cache_complete(self) -> bool:
        """Whether the cache is there and complete."""

    @property
    def tokens(self) -> FeatureCache | Uncached | None:
        """Identity of the tokens; None until they are extracted."""

    @property
    def token_shape(self) -> TokenShape:
        """Shape of one image's tokens."""

    @property
    def layered(self) -> bool:
        """Whether the backbone's layers are defined, so that the last of them can be tuned."""

    @property
    def absent(self) -> Mapping[str, Path]:
        """Input files that are not there, by the setting that names them."""

    @property
    def absent_recordings(self) -> Mapping[str, Path]:
        """Those of them that are recordings."""

    @property
    def absent_weights(self) -> Mapping[str, Path]:
        """The backbone's weights, where they are named and not there."""

    def recording_digest(self, recording: Recording) -> str:
        """Hash of the content of one of the recordings."""

    def images_digest(self, ids: NDArray[np.int64]) -> str:
        """Hash of the content of some images; each image is read once for all that ask."""
