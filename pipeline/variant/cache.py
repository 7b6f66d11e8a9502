"""The cache of one variant: the nearest copy of it, and whether it is the one that is meant."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from cache import PACKED, CacheError, FeatureCache, TokenShape, is_url, open_cache
from pipeline.variant.local_copy import Located
from stages.backbones import FAMILY, has_layers_by_name
from stages.registry import STAGES
from stages.tokens import Agreement, check_cache

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.terminal import Terminal
    from pipeline.variant.variant import Variant


@dataclass(frozen=True)
class VariantCache:
    """A variant's cache as far as it is made; it is opened once, and compared with the variant."""

    variant: Variant

    @cached_property
    def path(self) -> str:
        """Where it is or will be: a path or a URL.

        A cache that was made when the experiment named one backbone, or several, is found under the
        name that it got then, if it is of this one.
        """
        settings = self.variant.settings
        path = self.variant.file.cache_path(settings)
        if is_url(path) or Path(path).is_file() or (Path(path) / "zarr.json").exists():
            return path
        others = self.variant.file.cache_paths(settings)
        return next((other for other in others if other != path and self._is_ours(other)), path)

    def _is_ours(self, path: str) -> bool:
        """Whether a cache of this variant's settings is at a local path; images are left aside."""
        settings = self.variant.settings
        if not (Path(path) / "zarr.json").exists():
            return False
        with suppress(CacheError):
            check_cache(
                open_cache(path),
                backbone=settings.backbone,
                stimuli=settings.stimuli,
                crop=None,
                dtype=settings.cache.dtype,
                images=None,
            )
            return True
        return False

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
    def lacking(self) -> NDArray[np.int64]:
        """Ids of named images that the cache may yet get, array of shape (n,)."""
        import numpy as np

        agreement = self._checked[1]
        return np.empty(0, dtype=np.int64) if agreement is None else agreement.lacking

    @property
    def serves(self) -> bool:
        """Whether it is complete and has every image that a recording shows."""
        cache = self.opened
        if cache is None or not cache.complete:
            return False
        return not set(self.lacking.tolist()) & set(self.variant.inputs.shown.tolist())

    def required(self) -> FeatureCache:
        """The cache, complete.

        Raises
        ------
        CacheError
            No cache, or an incomplete one; the message names the remedy.
        """
        cache, remedy = self.opened, f"vitv1 extract {self.variant.file.path}"
        if cache is None:
            name = self.variant.cache_name
            raise CacheError(f"{name}: no feature cache there; make it with {remedy}")
        if not cache.complete:
            missing = int((~cache.shards_done).sum())
            raise CacheError(
                f"{cache.name} is incomplete, {missing} of {len(cache.shards_done)} shards are "
                f"missing: finish it with {remedy}"
            )
        if not self.serves:
            raise CacheError(
                f"{cache.name} lacks {len(self.lacking):,} images that are needed: add them with "
                f"{remedy}"
            )
        return cache

    @cached_property
    def token_shape(self) -> TokenShape:
        """Shape of one image's tokens: the cache's, or what timm says of the model.

        Raises
        ------
        UserError
            A model that timm does not have or that cannot see such images.
        """
        settings, cache = self.variant.settings, self.opened
        if cache is None:
            # timm takes seconds to import, and stage two must do without it.
            from stages.backbones import plan_token_shape

            return plan_token_shape(
                settings.backbone, input_size=settings.stimuli.size, dtype=settings.cache.dtype
            )
        return cache.token_shape

    @cached_property
    def layered(self) -> bool:
        """Whether the backbone's layers are defined: by the family that the cache has on record.

        Before version 0.2 all were plain ViTs. Where nothing is on record, timm is asked.
        """
        settings, cache = self.variant.settings, self.opened
        if cache is not None and not cache.hashed:
            return True
        if cache is not None and FAMILY in cache.provenance:
            return has_layers_by_name(str(cache.provenance[FAMILY]))
        from stages.backbones import has_layers

        return has_layers(settings.backbone, input_size=settings.stimuli.size)

    @cached_property
    def operations(self) -> float | None:
        """Floating-point operations of one image, counted where blocks are no transformer blocks.

        None where they are, and where there is a cache, which is planned without timm.
        """
        settings = self.variant.settings
        if self.opened is not None or not self.token_shape.differing:
            return None
        from stages.backbones import counted_operations

        return counted_operations(settings.backbone, input_size=settings.stimuli.size)

    def copied(self, terminal: Terminal) -> bool:
        """Make the local copy that the settings ask for; whether anything was copied."""
        return self._located.copy_what_is_read(terminal)

    @property
    def _located(self) -> Located:
        # A stage that reads tokens of its own may read any of any block.
        return Located(
            self.variant.settings,
            self.path,
            model=self.variant.model,
            everything=any(stage.reads_tokens(self.variant.settings) for stage in STAGES),
            inputs=self.variant.inputs,
        )

    @cached_property
    def _checked(self) -> tuple[FeatureCache | None, Agreement | None]:
        settings, inputs = self.variant.settings, self.variant.inputs
        cache = None if self.variant.replaces else self._located.open_nearest()
        if cache is None or inputs.absent_recordings:
            return cache, None
        agreement = check_cache(
            cache,
            backbone=settings.backbone,
            stimuli=settings.stimuli,
            crop=inputs.crop,
            dtype=settings.cache.dtype,
            images=inputs.digest,
            shown=inputs.shown,
        )
        absent = len(set(agreement.lacking.tolist()) & set(inputs.shown.tolist()))
        if absent and not self.is_writable:
            raise CacheError(
                f"{cache.name} lacks {absent:,} of {len(inputs.shown):,} images, and none can be "
                "added there: vitv1 cache pull it, and name the copy as [cache] path"
            )
        return cache, agreement
