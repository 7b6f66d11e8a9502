"""Tokens of the moved backbone in which a synthetic recording is planted: computed once, kept."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cache import FeatureCache, content_key, is_url
from pipeline.experiment import Experiment
from stages.recordings.synthetic import SyntheticSettings
from stages.stimuli.stimuli import Stimuli

#: Raised whenever the same settings give other tokens than before.
PLANTING_VERSION = 1


def moved_tokens(
    experiment: Experiment,
    settings: SyntheticSettings,
    cache: FeatureCache,
    stimuli: Stimuli,
    crop: tuple[int, int],
) -> NDArray[np.float16]:
    """Patch tokens of the planted block after `settings.perturb`, from the file beside the cache.

    Returns
    -------
    array of shape (n_images, row, column, channel)
    """
    assert settings.perturb is not None
    content = {
        "tokens": cache.key,
        "perturb": asdict(settings.perturb),
        "block": settings.block,
        "seed": settings.seed,
        "version": PLANTING_VERSION,
    }
    key = content_key(content)
    path = Path(cache.path).parent / f"planted-{key[:16]}.npz"
    if not is_url(cache.path) and path.exists():
        with np.load(path) as kept:
            return np.asarray(kept["patches"])
    # timm takes seconds to import, and is needed this once.
    from stages.backbones.backbone import create_backbone
    from stages.recordings.perturbed_backbone import perturbed_tokens
    from stages.stimuli.preprocessing import Preprocessing

    size = experiment.stimuli.size
    backbone = create_backbone(experiment.backbone, input_size=size)
    tokens = perturbed_tokens(
        backbone,
        settings.perturb,
        stimuli,
        Preprocessing(crop=crop, input_size=size, mean=backbone.mean, std=backbone.std),
        block=settings.block,
        seed=settings.seed,
    )
    if not is_url(cache.path):
        temporary = path.with_name(f"{path.stem}.new.npz")
        np.savez(temporary, patches=tokens)
        temporary.replace(path)
    return tokens
