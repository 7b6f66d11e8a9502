"""Caches of families other than plain ViTs hold what the models' own modules give."""

import numpy as np
import pytest
import torch
from support.every_family import MODELS, SIZE, own_outputs, settings

from cache import open_cache, verify
from stages.backbones import create_backbone
from stages.extract import Extraction, extract_task, recompute_tokens
from stages.stimuli.preprocessing import Preprocessing
from stages.stimuli.stimuli import digest, stimuli_from_array
from stages.tokens import token_settings

#: Families whose caches are verified and computed again, too.
RECOMPUTED = ("Swin", "hybrid of patches")


@pytest.mark.parametrize("family", MODELS)
def test_cached_tokens_are_the_model_s_own(family, tmp_path):
    backbone = create_backbone(settings(family), input_size=SIZE)
    images = np.random.default_rng(0).integers(0, 256, (2, *SIZE)).astype(np.uint8)
    stimuli = stimuli_from_array(images, source="test images")
    prepare = Preprocessing(
        crop=(0, SIZE[1]), input_size=SIZE, mean=backbone.mean, std=backbone.std
    )
    x = prepare(images)
    own = own_blocks(family, backbone, x)
    # Rounding of float16 is 2^-11 of a number, and 2^-25 near 0.
    for dtype, rtol, atol in (("float32", 1e-5, 0), ("float16", 2**-11 + 1e-5, 2**-24)):
        named = token_settings(
            settings(family),
            n_blocks=backbone.n_blocks,
            weights=backbone.weights,
            preprocessing=prepare,
            dtype=dtype,
        )
        path = tmp_path / f"{dtype}.zarr"
        task = Extraction(
            path=path,
            stimuli=stimuli,
            backbone=backbone,
            preprocessing=prepare,
            declared=settings(family),
            settings=named,
            provenance={"weights": "random"},
            dtype=dtype,
            images=digest(stimuli).images,
        )
        assert extract_task(task) == 2
        cache = open_cache(path)
        assert cache.token_shape == backbone.token_shape(dtype)
        for block, expected in own.items():
            np.testing.assert_allclose(
                cache.block(block).read("patches", stimuli.ids),
                expected,
                rtol=rtol,
                atol=atol + 1e-5 * np.abs(expected).max(),
            )
        if family in RECOMPUTED:
            assert verify(path).faults == []
            assert recompute_tokens(cache, task, n_images=2, progress=lambda n: None) == []


def own_blocks(family, backbone, x):
    """What a model gives in its own pass, by block, as images, rows, columns and channels."""
    *_, modules, layout = MODELS[family]
    if modules is not None:
        outputs = own_outputs(backbone.model, modules, layout, x, backbone.shape)
        return {block: out.numpy() for block, out in outputs}
    with torch.inference_mode():
        every = backbone.model.forward_intermediates(
            x, intermediates_only=True, **backbone.family.asked
        )
    return {block: out.permute(0, 2, 3, 1).numpy() for block, out in enumerate(every)}
