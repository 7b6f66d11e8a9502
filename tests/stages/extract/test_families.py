"""Caches of families other than plain ViTs hold what the models' own modules give."""

import numpy as np
import pytest
from support.every_family import MODELS, SIZE, own_outputs, settings

from cache import open_cache, verify
from stages.backbones import create_backbone
from stages.extract import Extraction, extract_task, recompute_tokens
from stages.stimuli.preprocessing import Preprocessing
from stages.stimuli.stimuli import digest, stimuli_from_array
from stages.tokens import token_settings


@pytest.mark.parametrize("family", ["Swin", "XCiT", "BEiT", "ResNet", "hybrid of patches"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float16", 1e-3)])
def test_cached_tokens_are_the_model_s_own(family, dtype, tolerance, tmp_path):
    backbone = create_backbone(settings(family), input_size=SIZE)
    images = np.random.default_rng(0).integers(0, 256, (5, *SIZE)).astype(np.uint8)
    stimuli = stimuli_from_array(images, source="test images")
    prepare = Preprocessing(
        crop=(0, SIZE[1]), input_size=SIZE, mean=backbone.mean, std=backbone.std
    )
    named = token_settings(
        settings(family),
        n_blocks=backbone.n_blocks,
        weights=backbone.weights,
        preprocessing=prepare,
        dtype=dtype,
    )
    task = Extraction(
        path=tmp_path / "c.zarr",
        stimuli=stimuli,
        backbone=backbone,
        preprocessing=prepare,
        declared=settings(family),
        settings=named,
        provenance={"weights": "random"},
        dtype=dtype,
        images=digest(stimuli).images,
    )
    assert extract_task(task) == 5
    cache = open_cache(tmp_path / "c.zarr")
    assert cache.token_shape == backbone.token_shape(dtype)
    assert verify(tmp_path / "c.zarr").faults == []
    *_, modules, layout = MODELS[family]
    x = prepare(images)
    for block, own in own_outputs(backbone.model, modules, layout, x, backbone.shape):
        expected = own.numpy()
        np.testing.assert_allclose(
            cache.block(block).read("patches", stimuli.ids),
            expected,
            rtol=tolerance,
            atol=tolerance * np.abs(expected).max(),
        )
    assert recompute_tokens(cache, task, n_images=2, progress=lambda n: None) == []
