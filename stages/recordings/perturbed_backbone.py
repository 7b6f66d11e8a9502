"""A backbone moved away from its weights: neurons planted in it are out of a frozen one's reach."""

from __future__ import annotations

import re
import zlib

import numpy as np
import torch
from numpy.typing import NDArray

from stages.backbones.backbone import BATCH, Backbone
from stages.recordings.synthetic import Perturbation
from stages.stimuli.preprocessing import Preprocessing
from stages.stimuli.stimuli import Stimuli

_MATRIX = re.compile(r"blocks\.(\d+)\..*weight$")

#: First number of the seeds of the noise; images and neurons of a recording have others.
_STREAM = 2


@torch.no_grad()
def perturb(model: torch.nn.Module, perturbation: Perturbation, *, seed: int) -> None:
    """Mix normal noise into the weight matrices of some blocks, in place, keeping their size.

    A matrix depends on its name, its shape and its weights, the perturbation and the seed alone.
    """
    keep = np.sqrt(1 - perturbation.amount**2)
    for name, weights in model.named_parameters():
        match = _MATRIX.match(name)
        if match is None or weights.ndim != 2 or int(match[1]) not in perturbation.blocks:
            continue
        rng = np.random.default_rng([seed, _STREAM, zlib.crc32(name.encode())])
        noise = torch.from_numpy(rng.standard_normal(tuple(weights.shape)).astype(np.float32))
        size = perturbation.amount * weights.std()
        weights.mul_(keep).add_(size * noise.to(weights.device))


def perturbed_tokens(
    backbone: Backbone,
    perturbation: Perturbation,
    stimuli: Stimuli,
    preprocessing: Preprocessing,
    *,
    block: int,
    seed: int,
) -> NDArray[np.float16]:
    """Patch tokens of one block of the moved backbone; `backbone` itself is moved.

    Returns
    -------
    array of shape (n_images, row, column, channel)
        In the order of the image ids.
    """
    perturb(backbone.model, perturbation, seed=seed)
    tokens = [
        backbone.tokens(preprocessing(images))[block]["patches"].to(torch.float16).numpy()
        for _, images in stimuli.batches(BATCH)
    ]
    return np.concatenate(tokens)
