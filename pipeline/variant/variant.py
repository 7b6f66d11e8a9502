"""One variant of an experiment, opened once per command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cache import FeatureCache, TokenShape, has_hashes, key_of, public_name
from pipeline.variant.cache import VariantCache
from pipeline.variant.inputs import Inputs
from pipeline.workers import check_run, device_of
from stages.recordings import FORMATS, Recording, RecordingSizes, chosen_neurons, plant_recording
from stages.registry import STAGES
from stages.tokens import Uncached

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.experiment import Experiment, ExperimentFile
    from stages.extract import Extraction
    from stages.readouts import ReadoutSettings
    from stages.recordings import RecordingSettings
    from stages.stimuli import Stimuli


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One variant: its files as far as they are there, and its cache as far as it is made.

    It is what `stages.variant.Variant` describes.

    Parameters
    ----------
    file : ExperimentFile
        The experiment file.
    settings : Experiment
        The variant's settings.
    inputs : Inputs
        Images and recordings, which all variants share.
    keeps : bool
        Whether planted responses may be kept beside the cache: not where nothing is to be written.
    recomputes : bool
        Whether the identity of the tokens is told from images and weights where there is no cache.
    replaces : bool
        Whether a cache that is there will be deleted, and so is not looked at.
    together : list of Variant
        All variants of the experiment that were opened together.
    """

    file: ExperimentFile
    settings: Experiment
    inputs: Inputs
    keeps: bool = False
    recomputes: bool = False
    replaces: bool = False
    together: list[Variant] = field(default_factory=list, repr=False, compare=False)

    def check(self) -> None:
        """Refuse what could not be finished, before anything is done.

        Raises
        ------
        UserError
            Settings that contradict each other or the data.
        """
        check_run(self.settings.run)
        for settings in self.settings.recording:
            FORMATS[settings.format].check(settings, self)
        if not self.absent:
            _ = self.sizes, self.crop
        for stage in STAGES:
            stage.check(self)

    @property
    def seed(self) -> int:
        """Seed of everything random."""
        return self.settings.run.seed

    @property
    def model(self) -> str:
        """What results call the backbone."""
        return self.file.model(self.settings)

    @property
    def siblings(self) -> Sequence[Variant]:
        """The variants of the same size of images and the same seed, itself among them."""
        own = self.settings.stimuli.size, self.seed
        return [v for v in self.together if (v.settings.stimuli.size, v.seed) == own]

    @property
    def output(self) -> Path:
        """The run's folder."""
        return self.file.output

    @cached_property
    def device(self) -> str:
        """Where a task computes."""
        return device_of(self.settings.run)

    @cached_property
    def readouts(self) -> Sequence[ReadoutSettings]:
        """Frozen readouts to fit: the experiment's, and those that other stages start from."""
        starts = [stage.readout(self.settings) for stage in STAGES]
        return [self.settings.readout, *(readout for readout in starts if readout is not None)]

    @property
    def sizes(self) -> Sequence[RecordingSizes]:
        """What each recording holds: counted, or as the experiment file expects it."""
        return self.inputs.sizes

    @property
    def stimuli(self) -> Stimuli | None:
        """The images, where they are at hand; a read fails where they changed meanwhile."""
        return self.inputs.hashed_stimuli

    @property
    def crop(self) -> tuple[int, int] | None:
        """Raw columns that the backbone sees; None where only the images tell."""
        return self.inputs.crop

    @property
    def image_shape(self) -> tuple[int, int] | None:
        """Rows and columns of a raw image, as far as they can be told."""
        return self.inputs.image_shape

    @property
    def planted(self) -> bool:
        """Whether neurons are planted in the tokens of the cache."""
        return self.inputs.planted

    @property
    def absent(self) -> Mapping[str, Path]:
        """Input files that are not there, by the setting that names them."""
        return self.inputs.absent

    @property
    def absent_recordings(self) -> Mapping[str, Path]:
        """Those of them that are recordings."""
        return self.inputs.absent_recordings

    @property
    def absent_weights(self) -> Mapping[str, Path]:
        """The file of the backbone's weights, if one is named and not there."""
        weights = self.settings.backbone.weights
        named = weights not in ("hub", "random") and not Path(weights).is_file()
        return {"backbone.weights": Path(weights)} if named else {}

    @cached_property
    def cache(self) -> VariantCache:
        """The cache as far as it is made."""
        return VariantCache(self)

    @property
    def cache_name(self) -> str:
        """What plans and messages call the cache."""
        return public_name(self.cache.path)

    @property
    def cache_complete(self) -> bool:
        """Whether the cache is there, complete, and has all images that recordings show."""
        return self.cache.serves

    @property
    def token_shape(self) -> TokenShape:
        """Shape of one image's tokens."""
        return self.cache.token_shape

    @property
    def layered(self) -> bool:
        """Whether the backbone's layers are defined, so that the last of them can be tuned."""
        return self.cache.layered

    @cached_property
    def tokens(self) -> FeatureCache | Uncached | None:
        """Identity of the tokens; None until they are extracted."""
        if self.absent_recordings or (self.planted and not self.cache_complete):
            return None
        cache = self.cache.opened
        if cache is not None and not self.cache.serves:
            if cache.hashed and self.inputs.digest is None:
                return None
            return Uncached(
                path=cache.path,
                key=cache.key,
                settings=cache.settings,
                provenance=cache.provenance,
                images=self.inputs.digest.images if cache.hashed and self.inputs.digest else None,
                begun=True,
            )
        if cache is not None or not self.recomputes:
            return cache
        extraction = self.extraction(device="cpu", provenance={})
        return Uncached(
            path=self.cache.path,
            key=key_of(extraction.settings),
            settings=extraction.settings,
            provenance=extraction.provenance,
            images=extraction.images,
        )

    @cached_property
    def n_images(self) -> int | None:
        """Images that the cache holds when it is complete; None where that cannot be told."""
        if self.cache_complete and not len(self.cache.lacking):
            return len(self.cache.required().image_ids)
        if not self.absent:
            return len(self.inputs.required_stimuli)
        every = self.settings.stimuli.expected.images
        if self.settings.stimuli.images == "all" or not self.settings.recording:
            return every
        shown = [sizes.images for sizes in self.sizes]
        known = [n for n in shown if n is not None]
        if len(known) < len(shown):
            return every
        # Each trial's image may be another one, but there are no more than the file holds.
        return sum(known) if every is None else min(sum(known), every)

    @cached_property
    def recordings(self) -> Sequence[Recording]:
        """All recordings, with the chosen neurons; planted ones need the complete cache."""
        files = self.inputs.chosen
        return [
            files[settings.name] if settings.name in files else self._plant(settings)
            for settings in self.settings.recording
        ]

    def recording_digest(self, recording: Recording) -> str:
        """Hash of the content of one of the recordings."""
        return self.inputs.content_of(recording)

    def images_digest(self, ids: NDArray[np.int64]) -> str:
        """Hash of the content of some images."""
        return self.inputs.digest_of(ids)

    def extraction(
        self, *, device: str, provenance: Mapping[str, Any], hashed: bool | None = None
    ) -> Extraction:
        """The variant's tokens, ready to be computed.

        Parameters
        ----------
        hashed : bool, optional
            Whether the cache tells its images apart by hashes; by default as the one that is there
            does, and new ones do.

        Raises
        ------
        UserError
            No images, or what `prepare_extraction` refuses.
        """
        from stages.extract import prepare_extraction

        _ = self.inputs.required_stimuli
        assert self.inputs.digest is not None
        return prepare_extraction(
            self.cache.path,
            variant=self,
            digest=self.inputs.digest,
            device=device,
            provenance=provenance,
            hashed=(self.replaces or has_hashes(self.cache.path)) if hashed is None else hashed,
        )

    def _plant(self, settings: RecordingSettings) -> Recording:
        """A recording planted in the cache's tokens: once for all variants that share the cache."""
        cache = self.cache.required()
        if cache.key not in self.inputs.planted_in:
            self.inputs.planted_in[cache.key] = plant_recording(
                settings, cache=cache, variant=self, keep=self.keeps
            )
        return chosen_neurons(settings, self.inputs.planted_in[cache.key])
