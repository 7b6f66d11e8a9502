"""Families: which one a model is of, what people call it, and the layers of its parameters."""

import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from support.tiny import FAMILIES

from cache import TokenShape
from stages.backbones import block_operations, family_of, model_name
from stages.backbones.families.eva import EvaViT
from stages.backbones.families.plain import PlainViT

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("vit_small_patch16_dinov3", EvaViT), ("vit_small_patch16_rope_mixed_224", EvaViT),
     ("vit_small_patch14_dinov2", PlainViT), ("vit_small_patch16_224.dino", PlainViT)],
)  # fmt: skip
def test_every_model_is_of_one_family(name, kind):
    model = timm.create_model(name, depth=1, embed_dim=48, num_heads=3)
    assert isinstance(family_of(model), kind)


def test_models_without_intermediate_outputs_are_of_none():
    assert family_of(torch.nn.Linear(1, 1)) is None


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("vit_small_patch16_dinov3.lvd1689m", "ViT-S/16 DINOv3"),
        ("vit_base_patch14_reg4_dinov2.lvd142m", "ViT-B/14 DINOv2"),
        ("vit_base_patch8_224.dino", "ViT-B/8 DINO"),
        ("vit_small_patch16_dinov3_qkvb.lvd1689m", "vit_small_patch16_dinov3_qkvb.lvd1689m"),
        ("vit_base_patch16_224.mae", "vit_base_patch16_224.mae"),
        ("resnet18", "resnet18"),
    ],
)
def test_models_have_the_names_that_people_use(name, said):
    assert model_name(name) == said


@pytest.mark.parametrize("given", FAMILIES.values(), ids=FAMILIES)
def test_every_parameter_is_in_the_embeddings_a_block_or_above(given):
    model = timm.create_model(given["name"], num_classes=7, **given["arguments"])
    family = family_of(model)
    layers = {name: family.layer(name) for name, _ in model.named_parameters()}
    assert set(layers.values()) == {-2, -1, 0, 1, 2}
    assert {name.split(".")[0] for name, layer in layers.items() if layer == -2} == {"norm", "head"}
    assert layers["cls_token"] == layers["patch_embed.proj.weight"] == -1


def test_the_rotary_embedding_of_every_block_is_of_the_embeddings():
    model = timm.create_model("vit_small_patch16_rope_mixed_224", depth=1)
    assert family_of(model).layer("rope.freqs") == -1


def test_operations_of_a_block():
    tokens = TokenShape(n_blocks=1, grid=(4, 8), n_channels=384, n_registers=4, dtype="float16")
    # Queries, keys, values and projection are 4 matrices of 384 x 384, the MLP is 8 of them.
    assert block_operations(tokens) == 37 * 2 * 12 * 384**2 + 37**2 * 4 * 384


def test_names_settings_and_costs_need_no_torch():
    code = (
        "import sys\n"
        "from cache import TokenShape\n"
        "from stages.backbones import BackboneSettings, block_operations, declared_identity\n"
        "from stages.backbones import VIT_RATE, model_name\n"
        "declared_identity(BackboneSettings(weights='random'), {})\n"
        "assert model_name('vit_small_patch16_dinov3') == 'ViT-S/16 DINOv3'\n"
        "block_operations(TokenShape(n_blocks=1, grid=(1, 1), n_channels=2, n_registers=0,"
        " dtype='float16'))\n"
        "assert not {'torch', 'timm'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
