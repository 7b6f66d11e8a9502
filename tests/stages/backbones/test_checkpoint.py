"""Checkpoints of others: unwrapped by name, and nothing of them adapted without a word."""

import pytest
import timm
import torch
from support.tiny import FAMILIES

from cache import UserError
from stages.backbones.backbone import create_backbone
from stages.backbones.settings import BackboneSettings

SIZE = (32, 64)


def model_of(family, **changes):
    given = FAMILIES[family]
    torch.manual_seed(1)
    arguments = {"img_size": SIZE, **given["arguments"], **changes}
    model = timm.create_model(given["name"], num_classes=0, **arguments).eval()
    return model


def loaded(family, content, folder, **settings):
    torch.save(content, folder / "weights.pth")
    given = {**FAMILIES[family], "weights": str(folder / "weights.pth"), **settings}
    return create_backbone(BackboneSettings(**given), input_size=SIZE)


def as_meta_has_it(model, *, bias, mask=None):
    """DINOv3's own names, with biases of queries, keys and values."""
    state = {}
    for name, value in model.state_dict().items():
        name = name.replace("gamma_1", "ls1.gamma").replace("gamma_2", "ls2.gamma")
        state[name.replace("reg_token", "storage_tokens")] = value.clone()
    for block in range(3):
        state[f"blocks.{block}.attn.qkv.bias"] = bias.clone()
        if mask is not None:
            state[f"blocks.{block}.attn.qkv.bias_mask"] = mask.clone()
    state["mask_token"] = torch.ones(1, 48)
    state["rope_embed.periods"] = model.rope.periods.bfloat16()
    return state


KEYS = torch.cat([torch.ones(48), torch.zeros(48), torch.ones(48)])


def test_biases_that_have_no_place_are_refused(tmp_path):
    model = model_of("dinov3")
    with pytest.raises(UserError, match=r"blocks\.0\.attn\.qkv\.bias and 2 more .* no place"):
        loaded("dinov3", as_meta_has_it(model, bias=torch.ones(144)), tmp_path)
    with pytest.raises(UserError, match="no place"):
        loaded("dinov3", as_meta_has_it(model, bias=torch.ones(144), mask=KEYS), tmp_path)


@pytest.mark.parametrize("given", [{"bias": torch.zeros(144)}, {"bias": 1 - KEYS, "mask": KEYS}])
def test_biases_that_act_as_zero_are_not_missed(tmp_path, given):
    vit = loaded("dinov3", as_meta_has_it(model_of("dinov3"), **given), tmp_path)
    assert vit.weights.adapted == ("left out 2 parameters (mask_token, rope_embed)",)


def test_a_bias_of_the_keys_that_would_be_dropped_is_refused(tmp_path):
    name = "vit_small_patch16_dinov3_qkvb"
    given = FAMILIES["dinov3"]["arguments"]
    model = timm.create_model(name, img_size=SIZE, num_classes=0, **given)
    state = {n: v for n, v in model.state_dict().items() if not n.endswith(("q_bias", "v_bias"))}
    model.load_state_dict(state, strict=False)
    renamed = as_meta_has_it(model, bias=KEYS)
    renamed = {n: v for n, v in renamed.items() if not n.endswith(("q_bias", "v_bias", "k_bias"))}
    vit = loaded("dinov3", renamed, tmp_path, name=name)
    assert (vit.model.blocks[1].attn.q_bias == 1).all()
    for block in range(3):
        renamed[f"blocks.{block}.attn.qkv.bias"] = torch.ones(144)
    with pytest.raises(UserError, match="no place"):
        loaded("dinov3", renamed, tmp_path, name=name)


def test_other_rotary_periods_are_refused(tmp_path):
    state = as_meta_has_it(model_of("dinov3"), bias=torch.zeros(144))
    state["rope_embed.periods"] *= 2
    with pytest.raises(UserError, match="rotary periods"):
        loaded("dinov3", state, tmp_path)


def test_patches_of_another_size_are_refused_and_resampled_only_from_the_model_s_own(tmp_path):
    of_8 = model_of("dino", patch_size=8).state_dict()
    for settings in ({}, {"patch_size": 16}):
        with pytest.raises(UserError, match=r"patches of 8x8 pixels, .* has 16x16: name the model"):
            loaded("dino", of_8, tmp_path, **settings)
    vit = loaded("dinov2", model_of("dinov2", img_size=(28, 56)).state_dict(), tmp_path)
    assert vit.weights.adapted == ("patch embedding resampled from 48x3x14x14 to 48x3x16x16",)


def test_a_resampled_position_embedding_is_said(tmp_path):
    vit = loaded("dino", model_of("dino", img_size=(64, 64)).state_dict(), tmp_path)
    assert vit.weights.adapted == ("position embedding resampled from 1x17x48 to 1x9x48",)


def nested(student, teacher):
    return {
        "as DINO has it": (
            {
                "student": {f"module.backbone.{n}": v for n, v in student.items()},
                "teacher": {
                    **{f"backbone.{n}": v for n, v in teacher.items()},
                    "dino_head.mlp.weight": torch.ones(3),
                },
                "epoch": 3,
            },
            ("read from teacher (beside student)", "read from backbone.*"),
        ),
        "as Lightning has it": (
            {
                "state_dict": {
                    **{f"student.backbone.{n}": v for n, v in student.items()},
                    **{f"teacher.backbone.{n}": v for n, v in teacher.items()},
                }
            },
            ("read from state_dict", "read from teacher.backbone.* (beside student.backbone.)"),
        ),
        "wrapped": ({f"module.{n}": v for n, v in teacher.items()}, ("read from module.*",)),
        "averaged": (
            {"model": student, "model_ema": teacher},
            ("read from model_ema (beside model)",),
        ),
    }


@pytest.mark.parametrize("layout", nested({}, {}))
def test_nested_weights_are_unwrapped_by_name(tmp_path, layout):
    teacher = model_of("dino")
    student = {name: value + 1 for name, value in teacher.state_dict().items()}
    content, said = nested(student, teacher.state_dict())[layout]
    vit = loaded("dino", content, tmp_path)
    assert vit.weights.adapted == said
    for name, value in vit.model.state_dict().items():
        assert torch.equal(value, teacher.state_dict()[name])


def test_a_head_is_left_out_and_said_and_an_adapter_is_refused(tmp_path):
    state = model_of("dino").state_dict()
    vit = loaded("dino", {**state, "dino_head.mlp.weight": torch.ones(3)}, tmp_path)
    assert vit.weights.adapted == ("left out 1 parameters (dino_head)",)
    with pytest.raises(UserError, match="lora"):
        loaded("dino", {**state, "blocks.0.attn.qkv.lora_A": torch.ones(3)}, tmp_path)
