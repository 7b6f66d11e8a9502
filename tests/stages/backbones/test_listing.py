"""Names of backbones that people give, and the models of timm that they mean."""

import pytest
import timm

from stages.backbones.listing import nearest_model

MEANT = {
    "dinov2_vits14": "vit_small_patch14_dinov2.lvd142m",
    "dinov2_vitl14": "vit_large_patch14_dinov2.lvd142m",
    "facebook/dinov2-small": "vit_small_patch14_dinov2.lvd142m",
    "dino_vits8": "vit_small_patch8_224.dino",
    "dino_vitb16": "vit_base_patch16_224.dino",
    "dinov3-vits16-pretrain-lvd1689m": "vit_small_patch16_dinov3.lvd1689m",
    "vit_small_patch16_dinov3.lvd1689": "vit_small_patch16_dinov3.lvd1689m",
}


@pytest.mark.parametrize("name", MEANT)
def test_the_family_decides_and_not_the_letters(name):
    assert nearest_model(name, timm.list_models(pretrained=True)) == MEANT[name]


def test_letters_decide_where_no_word_is_shared():
    assert nearest_model("resnet5", ["vit_tiny", "resnet50", "convnext"]) == "resnet50"
