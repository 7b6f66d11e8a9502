"""Combined conditions: one readout over blocks of several caches of an experiment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cache import BlockShape, CacheError, Places, UserError, differences, resolve_block
from stages.conditions import Condition
from stages.networks.record import backbone_record
from stages.readouts.settings import CombineSettings, ReadoutSettings
from stages.tokens.combination import Combination, CombinedBlock
from stages.tokens.kinds import KINDS
from stages.variant import Variant


@dataclass(frozen=True)
class Combined:
    """A combination, and the variant that each of its sources is of.

    It belongs to the variant of the first source, which has its recordings, too.
    """

    combination: Combination
    variants: Sequence[Variant]

    def condition(self, readout: ReadoutSettings, *, recording: str) -> Condition:
        """What identifies it: its sources stand in place of a model, and it has no block."""
        variant = self.variants[0]
        rows, columns = variant.settings.stimuli.size
        return Condition(
            recording=recording,
            model=self.combination.name,
            input_size=f"{rows}x{columns}",
            tokens=self.combination.tokens,
            solver=readout.solver,
            seed=variant.seed,
        )

    @property
    def item_bytes(self) -> int:
        """Bytes of one image's tokens, as the caches have them."""
        kind = KINDS[self.combination.tokens]
        pairs = zip(self.combination.sources, self.variants, strict=True)
        return sum(variant.token_shape.item_bytes(kind, each.block) for each, variant in pairs)

    @property
    def weights(self) -> str:
        """What results say of the weights."""
        told = [v.tokens.provenance.get("weights", "unknown") for v in self.variants if v.tokens]
        return " + ".join(dict.fromkeys(map(str, told)))

    @property
    def record(self) -> dict[str, object]:
        """What the backbones see, one after the other; saved with the result."""
        each = [
            backbone_record(v.settings.backbone, v.tokens.settings, image_shape=v.image_shape)
            for v in self.variants
            if v.tokens
        ]
        return {"image_shape": each[0]["image_shape"], "networks": each}

    def known(self, images: NDArray[np.int64]) -> Combination | None:
        """The same with the identity of its caches; None where the tokens of one are unknown yet.

        Parameters
        ----------
        images : array of shape (n_images,)
            Ids of the images that will be read.

        Raises
        ------
        CacheError
            A cache lacks a block or images, or has other images than the others.
        """
        sources = []
        for source, variant in zip(self.combination.sources, self.variants, strict=True):
            tokens = variant.tokens
            if tokens is None:
                return None
            tokens.block(source.block)
            tokens.rows(images)
            sha256 = tokens.images_digest(images)
            sources.append(replace(source, path=tokens.path, key=tokens.key, images_sha256=sha256))
        self._require_same_images(sources)
        return replace(self.combination, sources=tuple(sources))

    def _require_same_images(self, sources: Sequence[CombinedBlock]) -> None:
        (first, one), *others = zip(sources, self.variants, strict=True)
        for source, variant in others:
            differ = None not in (first.images_sha256, source.images_sha256)
            differ &= first.images_sha256 != source.images_sha256
            if not differ and one.tokens is not None and variant.tokens is not None:
                # Caches without hashes tell all their images together.
                both = [
                    {name: cache.settings[name] for name in ("images",) if name in cache.settings}
                    | {"crop": cache.settings["preprocessing"].get("crop")}
                    for cache in (one.tokens, variant.tokens)
                ]
                differ = bool(differences(both[0], both[1], declared_only=True))
            if differ:
                raise CacheError(
                    f"readout.combine: {first.name} and {source.name} are of different images "
                    f"({first.path}, {source.path}): extract both from the same"
                )


def combinations(variant: Variant, readout: ReadoutSettings) -> Iterator[Combined]:
    """What some readout settings combine, of which the first source is a variant's.

    Raises
    ------
    UserError
        A source that no cache of the experiment gives, a block or a CLS token that a backbone does
        not have, a block that is named twice, or tokens whose places are not known.
    """
    found: list[str] = []
    for settings in readout.combine:
        combined = _resolved(variant, settings)
        if combined.combination.name in found:
            raise UserError(
                f"readout.combine: {combined.combination.name} is named twice: name it once"
            )
        found.append(combined.combination.name)
        if combined.variants[0].model == variant.model:
            yield combined


def _resolved(variant: Variant, settings: CombineSettings) -> Combined:
    """The sources of one table, among the variants of the same images and seed."""
    by_model = {each.model: each for each in variant.siblings}
    sources, variants = [], []
    for model, block in settings.blocks:
        if model not in by_model:
            raise UserError(
                f'readout.combine: no cache of this experiment gives "{model}:{block}": it has '
                f"{', '.join(by_model)}"
            )
        chosen = by_model[model]
        source = _source(chosen, block, settings.tokens)
        if source in sources:
            raise UserError(f"readout.combine: {source.name} is named twice: name it once")
        sources.append(source)
        variants.append(chosen)
    combination = Combination(
        sources=tuple(sources), tokens=settings.tokens, resample=settings.resample
    )
    return Combined(combination, variants)


def _source(variant: Variant, named: int, tokens: str) -> CombinedBlock:
    shape, size = variant.token_shape, variant.settings.stimuli.size
    try:
        block = resolve_block(named, shape.n_blocks)
    except CacheError as error:
        raise UserError(f"readout.combine: {variant.model}: {error}") from None
    own = shape.blocks[block]
    if tokens == "cls":
        if not shape.has_cls:
            raise UserError(
                f'readout.combine with tokens = "cls": {variant.model} has no CLS token: use '
                '"patch"'
            )
        own = BlockShape(grid=(1, 1), n_channels=own.n_channels)
    if own.places is None:
        own = replace(own, places=_even(own.grid, size, f"{variant.model}:{block}"))
    return CombinedBlock(model=variant.model, block=block, shape=own, dtype=shape.dtype)


def _even(grid: tuple[int, int], size: tuple[int, int], name: str) -> Places:
    """Places of tokens that cover the image evenly, as those of early caches do."""
    if size[0] % grid[0] or size[1] % grid[1]:
        raise UserError(
            f"readout.combine: where the tokens of {name} lie in the image is not known: combine "
            "other blocks"
        )
    rows, columns = size[0] // grid[0], size[1] // grid[1]
    return Places(stride=(rows, columns), first_centre=(rows / 2, columns / 2))
