"""Whether layers of a backbone are defined: from what its cache has on record, else from timm."""

from types import SimpleNamespace

import pytest
from support.every_family import SIZE, settings

from pipeline.variant.cache import VariantCache


def layered(monkeypatch, family, cache):
    """The answer; with a cache that has it on record, timm is not asked."""
    if cache is not None and (not cache.hashed or cache.provenance):
        monkeypatch.setattr("stages.backbones.backbone.build", None)
    monkeypatch.setattr(VariantCache, "opened", property(lambda self: cache))
    wanted = SimpleNamespace(backbone=settings(family), stimuli=SimpleNamespace(size=SIZE))
    return VariantCache(SimpleNamespace(settings=wanted)).layered


def cache(hashed=True, **provenance):
    return SimpleNamespace(hashed=hashed, provenance=provenance)


@pytest.mark.parametrize(
    ("family", "made", "expected"),
    [
        ("without CLS", cache(family="VisionTransformer"), True),
        ("Swin", cache(family="SwinTransformer"), True),
        ("ConvNeXt", cache(family="ConvNeXt"), False),
        # A class of timm that this version does not know.
        ("Swin", cache(family="SwinTransformerV9"), False),
        # 0.1.0 took plain ViTs alone.
        ("without CLS", cache(hashed=False), True),
        ("BEiT", cache(), False),
        ("hybrid of patches", cache(), True),
        ("BEiT", None, False),
    ],
)
def test_layers_are_told_by_record_or_by_timm(monkeypatch, family, made, expected):
    assert layered(monkeypatch, family, made) is expected
