"""All variants of an experiment, opened together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.variant.inputs import Inputs
from pipeline.variant.variant import Variant

if TYPE_CHECKING:
    from pipeline.experiment import ExperimentFile


def open_variants(
    file: ExperimentFile, *, keeps: bool = False, recomputes: bool = False, replaces: bool = False
) -> list[Variant]:
    """Every variant of an experiment; what they share is opened once. Parameters: `Variant`."""
    inputs = Inputs(file.variants[0])
    return opened_together(
        Variant(
            file=file, settings=settings, inputs=inputs,
            keeps=keeps, recomputes=recomputes, replaces=replaces,
        )
        for settings in file.variants
    )  # fmt: skip


def opened_together(variants: Iterable[Variant]) -> list[Variant]:
    """Variants that know each other, opened anew: with what is in their caches by now."""
    every: list[Variant] = []
    every.extend(replace(variant, together=every) for variant in variants)
    return every


def one_per_cache(variants: Sequence[Variant]) -> Iterator[Variant]:
    """Variants that differ in their cache; seeds alone share one."""
    yield from {variant.cache.path: variant for variant in variants}.values()
