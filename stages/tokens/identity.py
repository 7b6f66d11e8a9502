"""Settings that decide every token: written into a cache, compared with it ever after."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cache import CacheError, differences, images_of
from stages.backbones.weights import declared_identity

if TYPE_CHECKING:
    from cache import FeatureCache
    from stages.backbones.settings import BackboneSettings
    from stages.backbones.weights import WeightsIdentity
    from stages.stimuli.preprocessing import Preprocessing
    from stages.stimuli.settings import StimuliSettings
    from stages.stimuli.stimuli import StimulusDigest


def token_settings(
    backbone: BackboneSettings,
    *,
    n_blocks: int,
    weights: WeightsIdentity,
    preprocessing: Preprocessing,
    images: StimulusDigest | None = None,
    dtype: str,
) -> dict[str, Any]:
    """Everything that changes a token, as the nested settings of a cache.

    With `images`, those of a cache without hashes, whose key tells all its images together.
    """
    return {
        "backbone": {
            **_architecture(backbone),
            "n_blocks": n_blocks,
            "weights": dict(weights.identity),
        },
        "preprocessing": {
            **preprocessing.settings(),
            **_uniform(images, preprocessing.crop, preprocessing.input_size),
        },
        **({} if images is None else {"images": _images(images)}),
        "dtype": dtype,
        "format_version": 1,
    }


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """What could be compared of a cache's identity: all but what `unchecked` names.

    `lacking` are the ids, array of shape (n,), of images that it may yet get.
    """

    unchecked: tuple[str, ...]
    lacking: NDArray[np.int64]


def check_cache(
    cache: FeatureCache,
    *,
    backbone: BackboneSettings,
    stimuli: StimuliSettings,
    crop: tuple[int, int] | None,
    dtype: str,
    images: StimulusDigest | None,
    shown: NDArray[np.int64] | None = None,
) -> Agreement:
    """Compare every declared setting with a cache's, and contents wherever they are at hand.

    Parameters
    ----------
    crop : pair of int, optional
        None where it cannot be told without the images.
    images : StimulusDigest, optional
        None where the images are not at hand.
    shown : array of shape (n_images,), optional
        Ids of the images that the recordings show, as far as they are known.

    Raises
    ------
    CacheError
        The settings that differ, by name, or images that do.
    """
    weights = declared_identity(backbone, _weights(cache))
    wanted: dict[str, Any] = {
        "backbone": _declared(backbone, weights),
        "preprocessing": {"input_size": list(stimuli.size)},
        "dtype": dtype,
    }
    if crop is not None:
        wanted["preprocessing"]["crop"] = list(crop)
    if cache.hashed:
        wanted["preprocessing"] |= _uniform(None, (0, 0), stimuli.size)
    elif images is not None:
        wanted["images"] = _images(images)
        if crop is not None:
            wanted["preprocessing"] |= _uniform(images, crop, stimuli.size)
    differing = differences(wanted, cache.settings, declared_only=True)
    if differing:
        raise CacheError(
            f"{cache.name} holds other tokens than this experiment names ({'; '.join(differing)}): "
            f"{_without_hashes(cache, differing)}correct the experiment, name another [cache] "
            f"path{_or_replace(differing)}"
        )
    lacking = np.empty(0, dtype=np.int64)
    if cache.hashed and images is not None:
        lacking = images.images.lacking(images_of(cache), where=cache.name).ids
    elif cache.hashed and shown is not None:
        lacking = np.setdiff1d(shown, cache.image_ids)
    absent = {
        "images": images is None,
        "weights": weights["kind"] == "file" and "sha256" not in weights,
        "crop": crop is None,
    }
    unchecked = tuple(name for name, missing in absent.items() if missing)
    return Agreement(unchecked=unchecked, lacking=lacking)


def _without_hashes(cache: FeatureCache, differing: Sequence[str]) -> str:
    """Why images count together, where they do."""
    of_images = any(each.startswith("images") for each in differing)
    return "it has no hashes of single images: " if of_images and not cache.hashed else ""


def is_declared(cache: FeatureCache, backbone: BackboneSettings) -> bool:
    """Whether a cache is of a backbone, as far as its settings tell."""
    wanted = {"backbone": _declared(backbone, declared_identity(backbone, _weights(cache)))}
    return not differences(wanted, cache.settings, declared_only=True)


def _weights(cache: FeatureCache) -> Mapping[str, Any]:
    """What a cache has on record of the weights, if anything."""
    backbone = cache.settings.get("backbone")
    weights = backbone.get("weights") if isinstance(backbone, Mapping) else None
    return weights if isinstance(weights, Mapping) else {}


def _declared(backbone: BackboneSettings, weights: Mapping[str, Any]) -> dict[str, Any]:
    return {**_UNSPACED, **_architecture(backbone), "weights": dict(weights)}


def _or_replace(differing: Sequence[str]) -> str:
    """A third remedy, where it costs nobody a cache that is right for other recordings."""
    of_images = all(each.startswith("images") for each in differing)
    return "" if of_images else ", or vitv1 extract --replace"


def _architecture(backbone: BackboneSettings) -> Mapping[str, Any]:
    return {
        "name": backbone.name,
        "patch_size": backbone.patch_size,
        # One value rather than a table, so that an argument left out differs from one given.
        "arguments": sorted([name, value] for name, value in backbone.arguments.items()),
        "precision": backbone.precision,
        **backbone.spacing(),
    }


#: What caches have whose tokens are as far apart as patches are large.
_UNSPACED = {"stride": None, "dense": None, "pad": None}


def _uniform(
    images: StimulusDigest | None, crop: tuple[int, int], size: tuple[int, int]
) -> Mapping[str, Any]:
    """What uniform images become: before version 0.2 they became others.

    Caches without hashes say it where they hold any. So the keys of earlier ones stay, but of those
    whose tokens would be others now.
    """
    said = images is None or images.holds_uniform(crop=crop, size=size)
    return {"uniform": "mid-grey"} if said else {}


def _images(images: StimulusDigest) -> dict[str, Any]:
    return {
        "count": len(images.crc32),
        "sha256": images.sha256,
        "crc32": base64.b64encode(images.crc32.astype("<u4").tobytes()).decode(),
    }
