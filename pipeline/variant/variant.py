"""What can be told of one variant of an experiment before anything is computed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cache import FeatureCache, TokenShape, is_url
from pipeline.experiment import Experiment, ExperimentFile
from pipeline.run.conditions import agreement_with
from pipeline.variant.cache import open_nearest
from pipeline.variant.inputs import Sources
from stages.recordings.settings import RecordingSettings


@dataclass(frozen=True, kw_only=True)
class Trials:
    """How much one recording holds; None where it cannot be told."""

    recording: str
    neurons: int | None
    trials: int | None
    test_images: int | None


@dataclass(frozen=True, kw_only=True)
class Known:
    """One variant, its files as far as they are there, and its cache as far as it is made.

    Parameters
    ----------
    file, experiment
        The experiment file and the variant.
    sources : Sources
        Its images and recordings.
    """

    file: ExperimentFile
    experiment: Experiment
    sources: Sources

    @property
    def path(self) -> str:
        """Where the cache is or will be."""
        return self.file.cache_path(self.experiment)

    @cached_property
    def absent(self) -> dict[str, Path]:
        """Input files that are not there, by the setting that names them."""
        return self.sources.absent

    @property
    def absent_weights(self) -> dict[str, Path]:
        """The file of the backbone's weights, if one is named and not there."""
        weights = self.experiment.backbone.weights
        named = weights not in ("hub", "random") and not Path(weights).is_file()
        return {"backbone.weights": Path(weights)} if named else {}

    @property
    def absent_for_cache(self) -> dict[str, Path]:
        """All of them that extraction needs."""
        return self.absent | self.absent_weights

    @property
    def absent_recordings(self) -> dict[str, Path]:
        """Those of them that are recordings."""
        return {name: p for name, p in self.absent.items() if name != "stimuli.path"}

    @cached_property
    def cache(self) -> FeatureCache | None:
        """The cache, complete or not; None where there is none.

        Raises
        ------
        CacheError
            Its settings or images are not this variant's, or a URL cannot be read.
        """
        if not is_url(self.path) and not Path(self.path).exists():
            return None
        cache = open_nearest(self.experiment, self.path)
        if not self.absent_recordings:
            agreement_with(cache, self.experiment, self.sources)
        return cache

    @property
    def complete(self) -> bool:
        """Whether the cache is there and complete."""
        return self.cache is not None and self.cache.complete

    @cached_property
    def tokens(self) -> TokenShape:
        """Shape of one image's tokens: the cache's, or what timm says of the model.

        Raises
        ------
        UserError
            A model that timm does not have or that cannot see such images.
        """
        settings = self.experiment
        if self.cache is None:
            # timm takes seconds to import, and stage two must do without it.
            from stages.backbones.backbone import plan_token_shape

            return plan_token_shape(
                settings.backbone, input_size=settings.stimuli.size, dtype=settings.cache.dtype
            )
        block = self.cache.block(self.cache.blocks[0])
        kinds = self.cache.kinds
        shapes = {kind: block.array(kind).shape for kind in kinds}
        rows, columns, channels = (
            shapes["patches"][1:] if "patches" in shapes else (1, 1, shapes[kinds[0]][-1])
        )
        return TokenShape(
            n_blocks=self.cache.n_blocks,
            grid=(rows, columns),
            n_channels=channels,
            n_registers=shapes["registers"][1] if "registers" in shapes else 0,
            dtype=settings.cache.dtype,
        )

    @property
    def planted(self) -> bool:
        """Whether the neurons are planted in the tokens of the cache."""
        return any(recording.format == "synthetic" for recording in self.experiment.recording)

    @cached_property
    def n_images(self) -> int | None:
        """Images that the cache holds when it is complete.

        Raises
        ------
        UserError
            No images are named, or they are not those of the recordings.
        """
        if self.complete and self.cache is not None:
            return len(self.cache.image_ids)
        if not self.absent:
            return len(self.sources.required_stimuli())
        every = self.experiment.stimuli.expected.images
        if self.experiment.stimuli.images == "all" or not self.experiment.recording:
            return every
        shown = [total(t.trials, t.test_images) for t in self.recordings]
        known = [n for n in shown if n is not None]
        if len(known) < len(shown):
            return every
        # Each trial's image may be another one, but there are no more than the file holds.
        return sum(known) if every is None else min(sum(known), every)

    @cached_property
    def recordings(self) -> list[Trials]:
        """What each recording holds: counted, or as the experiment file expects it."""
        if not self.absent_recordings:
            self.sources.check_neurons()
        counted = iter([] if self.absent_recordings else self.sources.recorded)
        found = []
        for settings in self.experiment.recording:
            if settings.format == "synthetic":
                planted = settings.synthetic
                found.append(_trials(settings, planted.n_neurons, planted.n_single, planted.n_test))
            elif self.absent_recordings:
                said = settings.expected
                found.append(_trials(settings, said.neurons, said.trials, said.test_images))
            else:
                r = next(counted)
                found.append(
                    _trials(settings, r.n_neurons, len(r.image_ids), len(r.test_image_ids))
                )
        return found


def total(*counts: int | None) -> int | None:
    """Their sum; None where one cannot be told."""
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def known_variants(file: ExperimentFile) -> Iterator[Known]:
    """Every variant; files are read once for all of them, since no sweep touches them."""
    first = Sources(file.variants[0])
    for number, experiment in enumerate(file.variants):
        sources = Sources(experiment, files=first) if number else first
        yield Known(file=file, experiment=experiment, sources=sources)


def _trials(
    settings: RecordingSettings, neurons: int | None, trials: int | None, test_images: int | None
) -> Trials:
    if settings.neurons != "all":
        neurons = settings.neurons[1] - settings.neurons[0]
    return Trials(recording=settings.name, neurons=neurons, trials=trials, test_images=test_images)
