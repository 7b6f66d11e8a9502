"""A backbone moved away from its weights, and its tokens, in which neurons are planted.

Readouts of the frozen backbone cannot reach neurons that are planted in these tokens.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cache import CacheError, differences
from stages.recordings.kept import kept_beside, tokens_identity

if TYPE_CHECKING:
    import torch

    from cache import FeatureCache
    from stages.recordings.synthetic_settings import Perturbation, SyntheticSettings
    from stages.variant import Variant

#: Raised whenever the same settings give other tokens than before.
PLANTING_VERSION = 1

#: First number of the seeds of the noise; images and neurons of a recording have others.
_STREAM = 2


def moved_tokens(
    settings: SyntheticSettings, *, cache: FeatureCache, variant: Variant, keep: bool
) -> NDArray[np.float16]:
    """Patch tokens of the planted block after `settings.perturb`.

    Array of shape (n_images, row, column, channel), in the order of the image ids. The cache is the
    one that the backbone made before it was moved; `keep` allows a file beside it.
    """
    assert settings.perturb is not None
    content = {
        **tokens_identity(cache, np.arange(settings.n_images)),
        "perturb": asdict(settings.perturb),
        "block": settings.block,
        "seed": settings.seed,
        "version": PLANTING_VERSION,
    }
    weights = cache.settings["backbone"]["weights"]
    compute = partial(_compute, settings, settings.perturb, variant, weights)
    return kept_beside(cache, "planted", content, compute, keep=keep)["patches"]


def perturb(model: torch.nn.Module, perturbation: Perturbation, *, seed: int) -> None:
    """Mix normal noise into the weight matrices of some blocks, in place, keeping their size.

    A matrix depends on its name, its shape and its weights, the perturbation and the seed alone.
    The model's layers are defined.
    """
    import torch

    from stages.backbones.families import family_of

    family, keep = family_of(model), np.sqrt(1 - perturbation.amount**2)
    assert family is not None and family.layered is not None
    for name, weights in model.named_parameters():
        of_block = family.layer(name) in perturbation.blocks
        if not of_block or weights.ndim != 2 or not name.endswith("weight"):
            continue
        rng = np.random.default_rng([seed, _STREAM, zlib.crc32(name.encode())])
        noise = torch.from_numpy(rng.standard_normal(tuple(weights.shape)).astype(np.float32))
        with torch.no_grad():
            size = perturbation.amount * weights.std()
            weights.mul_(keep).add_(size * noise.to(weights.device))


def _compute(
    settings: SyntheticSettings,
    perturbation: Perturbation,
    variant: Variant,
    weights: Mapping[str, Any],
) -> dict[str, NDArray[Any]]:
    # torch and timm take seconds to import, and tokens that are kept need neither.
    import torch

    from stages.backbones.backbone import BATCH, create_backbone
    from stages.stimuli.preprocessing import Preprocessing

    assert variant.stimuli is not None and variant.crop is not None
    size = variant.settings.stimuli.size
    moved = create_backbone(variant.settings.backbone, input_size=size)
    differing = differences({"weights": dict(moved.weights.identity)}, {"weights": dict(weights)})
    if differing:
        raise CacheError(
            f"the cache's tokens are of other weights than those to be moved "
            f"({'; '.join(differing)}): correct backbone.weights, or extract again"
        )
    perturb(moved.model, perturbation, seed=settings.seed)
    prepare = Preprocessing(crop=variant.crop, input_size=size, mean=moved.mean, std=moved.std)
    tokens = [
        moved.tokens(prepare(images))[settings.block]["patches"].to(torch.float16).numpy()
        for _, images in variant.stimuli.batches(BATCH)
    ]
    return {"patches": np.concatenate(tokens)}
