"""Readouts of an earlier run, found by their identity, with the tokens they were fitted to."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cache import FeatureCache, UserError, whole_numbers
from stages.conditions import IDENTITY, Condition
from stages.readouts.manifest import READOUTS, refuse, saved_attributes, saved_damage
from stages.readouts.readout import Readouts, predict
from stages.readouts.saved import saved_readouts
from stages.tokens.cached import CachedTokens
from stages.tokens.combination import Combination
from stages.tokens.combined import combined
from stages.tokens.kinds import KINDS

if TYPE_CHECKING:
    import torch

#: Path of an array in a cache: its block and its kind of tokens.
_ARRAY = re.compile(r"(?:^|/)blocks/(\d+)/(\w+)$")

#: What readouts of a tuned network are for.
_LOAD_MODEL = "stages.load_model gives rates of images through that network"

#: Word by which a caller says that the tokens are those of the tuned network.
TUNED = "tuned"


@dataclass(frozen=True, kw_only=True)
class SavedReadouts(Readouts):
    """Readouts of a saved condition.

    Parameters
    ----------
    condition : Condition
        What they are: model, tuning, kind of tokens, block.
    cache_key : str, optional
        The cache whose tokens they were fitted to.
    combination : Combination, optional
        The blocks of several caches that they were fitted to; of one cache they name none.
    """

    condition: Condition
    cache_key: str | None
    combination: Combination | None = None

    def predict(
        self, tokens: ArrayLike | torch.Tensor, *, device: torch.device | str = "cpu"
    ) -> NDArray[np.float32]:
        """Predicted rates, as `Readouts.predict`; an array of a cache says whose tokens it holds.

        Raises
        ------
        UserError
            Also an array of a cache, such as `cache.block(3).array("patches")`, of another block or
            kind of tokens, or for readouts of a tuned network.
        """
        place = _ARRAY.search(str(getattr(tokens, "path", "")))
        if place is not None:
            own, found = self.condition, f"{place[2]} of block {int(place[1])}"
            self._require_frozen()
            blocks = [own.model] if own.blocks is None else own.blocks.split("+")
            read = [f"{KINDS[str(own.tokens)]} of block {b}" for b in blocks]
            if read != [found]:
                raise UserError(
                    f"{own.slug} reads {' and '.join(read)}, and these tokens are {found}: "
                    "predict_from(cache) reads the right ones"
                )
        return super().predict(tokens, device=device)

    def _require_frozen(self) -> None:
        """Refuse tokens of a cache for readouts of another network."""
        own = self.condition
        if own.tuning != "frozen" or own.tokens is None:
            raise UserError(f"{own.slug}: {_of_tuned(own)}, which are in no cache: {_LOAD_MODEL}")

    def predict_from(
        self,
        cache: FeatureCache | Sequence[FeatureCache],
        images: Sequence[int] | NDArray[np.integer[Any]] | None = None,
    ) -> NDArray[np.float32]:
        """Predicted rates for images of the cache that these readouts were fitted to.

        Parameters
        ----------
        cache : FeatureCache
            From `cache.open_cache`; a copy, or one with some of its blocks, will do. For readouts
            of a combination a sequence of all its caches, in any order.
        images : sequence of int, optional
            Image ids, in the order of the result; by default all, as in `cache.image_ids`.

        Returns
        -------
        array of shape (n_images, n_neurons)
            In the units of the recording's responses.

        Raises
        ------
        UserError
            Another cache; readouts of a tuned network, whose tokens no cache has; masks, floats and
            whatever else are no image ids.
        CacheError
            A block or images that the cache does not hold.
        """
        own = self.condition
        self._require_frozen()
        assert own.tokens is not None
        given = [cache] if isinstance(cache, FeatureCache) else list(cache)
        every = self.combination
        keys = [self.cache_key] if every is None else [each.key for each in every.sources]
        by_key: dict[str | None, FeatureCache] = {each.key: each for each in given}
        for each in given:
            if each.key not in keys:
                raise UserError(
                    f"{own.slug} was fitted to tokens of the cache with key {self.cache_key}, but "
                    f"{each.name} has key {each.key}: open the cache of their run"
                )
        if absent := [key for key in keys if key not in by_key]:
            raise UserError(
                f"{own.slug} was also fitted to tokens of the cache with key {absent[0]}: pass all "
                "caches in a list"
            )
        caches = [by_key[key] for key in keys]
        ids = caches[0].image_ids if images is None else whole_numbers(images, "images")
        if every is not None:
            return predict(self, combined(every, caches, ids), "cpu")
        blocks = [caches[0].block(int(block)) for block in str(own.blocks).split("+")]
        return predict(self, CachedTokens(blocks, KINDS[own.tokens], ids), "cpu")


def load_readouts(run_dir: Path | str, **identity: str | int | None) -> SavedReadouts:
    """Saved readouts of one condition, to predict responses to new images.

    Parameters
    ----------
    run_dir : path
        A run's output folder.
    **identity
        As many of the identity columns (recording, model, input_size, tuning, protocol, tokens,
        block, blocks, solver, seed) as single out one condition. Readouts of a tuned network, or
        of a CNN, read tokens of that network, and a frozen backbone's give wrong rates: who has the
        tuned network's says so by `tokens="tuned"`, or by `"tuned patch"` or `"tuned cls"` where
        the run has both.

    Returns
    -------
    SavedReadouts
        `.predict_from(cache, images)` reads the block and the kind of tokens that they were fitted
        to. `.predict(tokens)` takes any array of shape (n_images, n_rows, n_columns, n_channels):
        that it holds tokens of the same backbone, input size, block and kind, only the caller
        knows. The neurons are those of the run, in its order.

    Raises
    ------
    UserError
        No saved readouts there, an unknown column, none or several conditions that fit, readouts of
        a tuned network without the word, or a file that changed since it was written.
    """
    run, named = Path(run_dir), str(identity.get("tokens")).startswith(TUNED)
    condition, attributes = find_saved(run, identity, who="load_readouts")
    if condition.tuning != "frozen" and not named:
        raise UserError(
            f"{condition.slug}: {_of_tuned(condition)}, and tokens of a frozen backbone would give "
            f'wrong rates: {_LOAD_MODEL}; name tokens="{TUNED}" if you have its tokens'
        )
    return as_saved(run, condition, attributes)


def as_saved(run: Path, condition: Condition, attributes: Mapping[str, Any]) -> SavedReadouts:
    """Readouts of a condition that `find_saved` found."""
    document = attributes.get("inputs", {}).get("combined")
    return SavedReadouts(
        **vars(saved_readouts(run, condition)),
        condition=condition,
        cache_key=attributes.get("cache_key"),
        combination=None if document is None else Combination.from_document(document),
    )


def find_saved(
    run: Path, identity: Mapping[str, str | int | None], *, who: str
) -> tuple[Condition, Mapping[str, Any]]:
    """The one saved condition with some identity, and its attributes.

    Parameters
    ----------
    identity : mapping
        Columns of the identity, as `load_readouts` takes them.
    who : str
        What messages call the caller.

    Raises
    ------
    UserError
        As `load_readouts`.
    """
    unknown = sorted(set(identity) - set(IDENTITY))
    if unknown:
        raise UserError(f"{who}: {unknown[0]} is not one of {', '.join(IDENTITY)}")
    if not (run / READOUTS).is_dir():
        raise UserError(f"{run} has no {READOUTS}: run vitv1 fit first, or correct the path")
    for name, value in identity.items():
        # True == 1 would find block 1.
        if isinstance(value, bool) or not isinstance(value, str | int | np.integer | None):
            raise UserError(f"{who}: {name} = {value!r}: pass a text or a whole number")
    asked = ", ".join(f"{name}={value!r}" for name, value in identity.items()) or "nothing"
    tuned, _, kind = str(identity.get("tokens")).partition(" ")
    if is_tuned := tuned == TUNED:
        identity = {name: value for name, value in identity.items() if name != "tokens"}
        identity |= {"tokens": kind} if kind else {}
    slugs = [path.parent.name for path in sorted((run / READOUTS).glob("*/zarr.json"))]
    found = {slug: saved_attributes(run, slug) or {} for slug in slugs}
    fitting = [
        slug
        for slug, own in found.items()
        if all(own.get(name) == value for name, value in identity.items())
        and not (is_tuned and own.get("tuning") == "frozen")
    ]
    for slug in fitting or slugs:
        refuse(run, saved_damage(run, slug, readouts_alone=True))
    if not fitting:
        raise UserError(f"{run} has no readouts with {asked}; it has {', '.join(found)}")
    if len(fitting) > 1:
        raise UserError(
            f"{run} has {len(fitting)} conditions with {asked} ({', '.join(fitting[:4])}"
            f"{', ...' if len(fitting) > 4 else ''}): name more columns"
        )
    attributes = found[fitting[0]]
    return Condition.from_row(attributes), attributes


def _of_tuned(condition: Condition) -> str:
    network = "a CNN" if condition.tokens is None else "a backbone that was tuned"
    if condition.tuning == "core":
        network = "a CNN beside those of a backbone"
    return f"these readouts read features of {network}"
