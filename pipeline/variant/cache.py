"""The cache of one variant: the nearest copy of it, and whether it is the one that is meant."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from cache import PACKED, CacheError, FeatureCache, TokenShape, is_url, public_name
from pipeline.variant.inputs import Inputs
from pipeline.variant.local_copy import copy_what_is_read, open_nearest
from stages.tokens import Agreement, Uncached, check_cache

if TYPE_CHECKING:
    from pipeline.experiment import Experiment
    from pipeline.terminal import Terminal


@dataclass(frozen=True, kw_only=True)
class VariantCache:
    """A variant's cache as far as it is made; it is opened once, and compared with the variant.

    Parameters
    ----------
    path : str
        Where it is or will be: a path or a URL.
    settings : Experiment
        The variant's settings.
    inputs : Inputs
        Its images and recordings.
    made_by : path
        The experiment file, for messages.
    everything : bool
        Whether any token may be read, rather than those of the readouts.
    replaces : bool
        Whether a cache that is there will be deleted, and so is not looked at.
    """

    path: str
    settings: Experiment
    inputs: Inputs
    made_by: Path
    everything: bool
    replaces: bool = False

    @property
    def name(self) -> str:
        """The path as it may be shown."""
        return public_name(self.path)

    @property
    def is_writable(self) -> bool:
        """Whether extraction can write there: a directory on this machine's disks."""
        return not is_url(self.path) and not self.path.endswith(PACKED)

    @property
    def opened(self) -> FeatureCache | None:
        """The cache, complete or not; None where there is none.

        Raises
        ------
        CacheError
            Its settings or images are not this variant's, or a URL cannot be read.
        """
        return self._checked[0]

    @property
    def unchecked(self) -> tuple[str, ...]:
        """What could not be compared of the cache with the variant, such as "images"."""
        agreement = self._checked[1]
        return () if agreement is None else agreement.unchecked

    @property
    def complete(self) -> bool:
        """Whether the cache is there and complete."""
        return self.opened is not None and self.opened.complete

    def required(self) -> FeatureCache:
        """The cache, complete.

        Raises
        ------
        CacheError
            No cache, or an incomplete one; the message names the remedy.
        """
        cache = self.opened
        if cache is None:
            raise CacheError(
                f"{self.name}: no feature cache there; make it with vitv1 extract {self.made_by}"
            )
        if not cache.complete:
            missing = int((~cache.shards_done).sum())
            raise CacheError(
                f"{cache.name} is incomplete, {missing} of {len(cache.shards_done)} shards are "
                f"missing: finish it with vitv1 extract {self.made_by}"
            )
        return cache

    def identity(self) -> FeatureCache | Uncached | None:
        """Identity of the tokens that it holds, or will hold; None where there is no cache."""
        cache = self.opened
        if cache is None or cache.complete:
            return cache
        return Uncached(
            path=cache.path,
            key=cache.key,
            settings=cache.settings,
            provenance=cache.provenance,
            begun=True,
        )

    @cached_property
    def token_shape(self) -> TokenShape:
        """Shape of one image's tokens: the cache's, or what timm says of the model.

        Raises
        ------
        UserError
            A model that timm does not have or that cannot see such images.
        """
        settings, cache = self.settings, self.opened
        if cache is None:
            # timm takes seconds to import, and stage two must do without it.
            from stages.backbones import plan_token_shape

            return plan_token_shape(
                settings.backbone, input_size=settings.stimuli.size, dtype=settings.cache.dtype
            )
        block, kinds = cache.block(cache.blocks[0]), cache.kinds
        shapes = {kind: block.array(kind).shape for kind in kinds}
        rows, columns, channels = (
            shapes["patches"][1:] if "patches" in shapes else (1, 1, shapes[kinds[0]][-1])
        )
        return TokenShape(
            n_blocks=cache.n_blocks,
            grid=(rows, columns),
            n_channels=channels,
            n_registers=shapes["registers"][1] if "registers" in shapes else 0,
            dtype=settings.cache.dtype,
        )

    def copied(self, terminal: Terminal) -> bool:
        """Make the local copy that the settings ask for; whether anything was copied."""
        return copy_what_is_read(self.settings, self.path, terminal, everything=self.everything)

    @cached_property
    def _checked(self) -> tuple[FeatureCache | None, Agreement | None]:
        cache = None
        if not self.replaces:
            cache = open_nearest(self.settings, self.path, everything=self.everything)
        if cache is None or self.inputs.absent_recordings:
            return cache, None
        return cache, check_cache(
            cache,
            backbone=self.settings.backbone,
            stimuli=self.settings.stimuli,
            crop=self.inputs.crop,
            dtype=self.settings.cache.dtype,
            images=self.inputs.digest,
        )
