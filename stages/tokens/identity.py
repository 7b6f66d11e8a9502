"""Settings that decide every token: written into a cache, compared with it ever after."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cache import CacheError, differences
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
    images: StimulusDigest,
    dtype: str,
) -> dict[str, Any]:
    """Everything that changes a token, as the nested settings of a cache."""
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
        "images": _images(images),
        "dtype": dtype,
        "format_version": 1,
    }


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """What could be compared of a cache's identity: all but what `unchecked` names."""

    unchecked: tuple[str, ...]


def check_cache(
    cache: FeatureCache,
    *,
    backbone: BackboneSettings,
    stimuli: StimuliSettings,
    crop: tuple[int, int] | None,
    dtype: str,
    images: StimulusDigest | None,
) -> Agreement:
    """Compare every declared setting with a cache's, and contents wherever they are at hand.

    Parameters
    ----------
    crop : pair of int, optional
        None where it cannot be told without the images.
    images : StimulusDigest, optional
        None where the images are not at hand.

    Raises
    ------
    CacheError
        The settings that differ, by name.
    """
    weights = declared_identity(backbone)
    wanted: dict[str, Any] = {
        "backbone": _declared(backbone, weights),
        "preprocessing": {"input_size": list(stimuli.size)},
        "dtype": dtype,
    }
    if crop is not None:
        wanted["preprocessing"]["crop"] = list(crop)
    if images is not None:
        wanted["images"] = _images(images)
    if images is not None and crop is not None:
        wanted["preprocessing"] |= _uniform(images, crop, stimuli.size)
    differing = differences(wanted, cache.settings, declared_only=True)
    if differing:
        raise CacheError(
            f"{cache.name} holds other tokens than this experiment names ({'; '.join(differing)}): "
            f"correct the experiment, name another [cache] path{_or_replace(differing)}"
        )
    absent = {
        "images": images is None,
        "weights": weights["kind"] == "file" and "sha256" not in weights,
        "crop": crop is None,
    }
    return Agreement(unchecked=tuple(name for name, missing in absent.items() if missing))


def is_declared(cache: FeatureCache, backbone: BackboneSettings) -> bool:
    """Whether a cache is of a backbone, as far as its settings tell."""
    wanted = {"backbone": _declared(backbone, declared_identity(backbone))}
    return not differences(wanted, cache.settings, declared_only=True)


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
    images: StimulusDigest, crop: tuple[int, int], size: tuple[int, int]
) -> Mapping[str, Any]:
    """What uniform images become, where there are any: before version 0.2 they became others.

    So the keys of earlier caches stay, but of those whose tokens would be others now.
    """
    return {"uniform": "mid-grey"} if images.holds_uniform(crop=crop, size=size) else {}


def _images(images: StimulusDigest) -> dict[str, Any]:
    return {
        "count": len(images.crc32),
        "sha256": images.sha256,
        "crc32": base64.b64encode(images.crc32.astype("<u4").tobytes()).decode(),
    }
