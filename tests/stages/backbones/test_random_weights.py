"""Random weights: known numbers, and blocks that differ."""

from itertools import pairwise

import numpy as np
import pytest
import timm
import torch
from support.every_family import settings
from support.tiny import FAMILIES

from stages.backbones.backbone import create_backbone
from stages.backbones.random_weights import randomise
from stages.backbones.weights import declared_identity

SIZE = (32, 64)

#: One weight each of five parameters of the tiny DINO backbone, seed 0, gain 2.
KNOWN = [-0.0492080189, 0.0070307394, -0.2005864829, 0.1561052352, -0.0232721679]
#: The same of four parameters of the tiny Swin.
KNOWN_OTHER = [0.0804897621, 0.6890754104, -0.3260321915, -0.0659466535]


def create(family, *, depth=3):
    recipe = FAMILIES[family]
    patch = {"patch_size": recipe["patch_size"]} if "patch_size" in recipe else {}
    model = timm.create_model(
        recipe["name"],
        pretrained=False,
        num_classes=0,
        img_size=SIZE,
        **patch,
        **{**recipe["arguments"], "depth": depth},
    )
    return model.eval()


def randomised(family, *, seed=0, gain=2.0, depth=3):
    model = create(family, depth=depth)
    randomise(model, seed=seed, gain=gain)
    return model


def images(n=16):
    return torch.from_numpy(np.random.default_rng(0).standard_normal((n, 3, *SIZE))).float()


@torch.no_grad()
def all_tokens(model, x):
    """Prefix and patch tokens of every block, arrays of shape (n_images, n_tokens, n_channels)."""
    blocks = model.forward_intermediates(
        x, norm=False, output_fmt="NLC", return_prefix_tokens=True, intermediates_only=True
    )
    return [torch.cat([prefix, patches], dim=1).numpy() for patches, prefix in blocks]


def neighbour_correlations(model):
    blocks = [tokens - tokens.mean(axis=(0, 1)) for tokens in all_tokens(model, images())]
    return [
        float((a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum())) for a, b in pairwise(blocks)
    ]


@pytest.mark.parametrize("family", FAMILIES)
def test_same_seed_same_weights_whatever_was_there_before(family):
    torch.manual_seed(1)
    one = randomised(family).state_dict()
    torch.manual_seed(2)
    other = randomised(family).state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("change", [{"seed": 1}, {"gain": 1.5}])
def test_seed_and_gain_change_the_tokens(change):
    reference, changed = randomised("dino"), randomised("dino", **change)
    x = images(2)
    assert not np.allclose(all_tokens(reference, x)[-1], all_tokens(changed, x)[-1], rtol=0.05)


def test_a_parameter_depends_on_its_own_name_and_shape_only():
    shallow = dict(randomised("dino", depth=2).named_parameters())
    deep = dict(randomised("dino", depth=3).named_parameters())
    assert all(torch.equal(deep[name], shallow[name]) for name in shallow)
    assert not torch.equal(deep["blocks.0.mlp.fc1.weight"], deep["blocks.1.mlp.fc1.weight"])


def test_known_numbers():
    # A cache key holds seed, gain and recipe: other numbers need another recipe.
    weights = dict(randomised("dino").named_parameters())
    found = [
        weights["cls_token"][0, 0, 0],
        weights["patch_embed.proj.weight"][0, 0, 0, 0],
        weights["blocks.1.attn.qkv.weight"][0, 0],
        weights["blocks.1.attn.qkv.weight"][-1, 0],
        weights["blocks.2.mlp.fc2.weight"][0, 0],
    ]
    assert [value.item() for value in found] == pytest.approx(KNOWN, rel=1e-6)


@pytest.mark.parametrize(
    ("family", "recipe"), [("without CLS", 1), ("hybrid /32", 2), ("Swin", 2), ("Gemma 4", 2)]
)
def test_the_model_decides_the_recipe_which_a_cache_has_on_record(family, recipe):
    given = settings(family)
    identity = create_backbone(given, input_size=SIZE).weights.identity
    assert identity == {"kind": "random", "recipe": recipe, "seed": 0, "gain": 2.0}
    assert declared_identity(given, identity) == identity
    # Of a recipe that is no longer drawn with, nothing is taken.
    assert declared_identity(given, {**identity, "recipe": 7}) == {**identity, "recipe": 2}


def test_known_numbers_of_other_models():
    weights = dict(create_backbone(settings("Swin"), input_size=SIZE).model.named_parameters())
    found = [
        weights["patch_embed.proj.weight"][0, 0, 0, 0],
        weights["layers.0.blocks.0.attn.qkv.weight"][0, 0],
        weights["layers.1.downsample.reduction.weight"][0, 0],
        weights["layers.1.blocks.1.mlp.fc2.weight"][0, 0],
    ]
    assert [value.item() for value in found] == pytest.approx(KNOWN_OTHER, rel=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_neighbouring_blocks_differ_as_they_do_not_by_default(family):
    torch.manual_seed(0)
    assert min(neighbour_correlations(create(family))) > 0.95
    assert max(neighbour_correlations(randomised(family))) < 0.85


def test_without_gain_blocks_grow_alike():
    plain = neighbour_correlations(randomised("dino", gain=1.0, depth=8))
    grown = neighbour_correlations(randomised("dino", gain=2.0, depth=8))
    assert plain[-1] > 0.9
    assert grown[-1] == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize("family", FAMILIES)
def test_twelve_blocks_fit_into_float16(family):
    tokens = all_tokens(randomised(family, depth=12), images())
    assert len(tokens) == 12
    assert all(np.isfinite(block).all() for block in tokens)
    assert max(abs(block).max() for block in tokens) < 1e4
    assert min(block.std() for block in tokens) > 0.05
    assert tokens[-1].std() / tokens[-2].std() == pytest.approx(2.0, rel=0.2)


@pytest.mark.parametrize(
    ("family", "scales"), [("dinov2", "ls1.gamma"), ("dinov3", "gamma_1"), ("dinov3", "gamma_2")]
)
def test_layer_scale_passes_everything_on(family, scales):
    weights = dict(randomised(family).named_parameters())
    assert torch.equal(weights[f"blocks.1.{scales}"], torch.ones(48))


@pytest.mark.parametrize("family", FAMILIES)
def test_norms_are_the_identity_and_biases_zero(family):
    weights = dict(randomised(family).named_parameters())
    assert torch.equal(weights["blocks.0.norm1.weight"], torch.ones(48))
    biases = [value for name, value in weights.items() if name.endswith("bias")]
    assert biases
    assert not any(bias.any() for bias in biases)


def test_brightness_alone_changes_nothing():
    model = randomised("dino")
    x = images(2)
    for plain, brighter in zip(all_tokens(model, x), all_tokens(model, x + 3), strict=True):
        np.testing.assert_allclose(brighter, plain, atol=1e-3)


def test_register_tokens_differ_from_each_other():
    registers = randomised("dinov3").reg_token[0].detach()
    assert registers.shape[0] == 4
    assert len(torch.unique(registers, dim=0)) == 4
