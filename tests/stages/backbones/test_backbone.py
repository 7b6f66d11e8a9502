"""Backbones: tokens, weights from files, and what is refused."""

import zipfile

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from support.tiny import FAMILIES

from cache import UserError
from stages.backbones.backbone import create_backbone, plan_token_shape
from stages.backbones.checkpoint import read_weights
from stages.backbones.settings import BackboneSettings

SIZE = (32, 64)


def backbone(family="dino", *, size=SIZE, **changes):
    return create_backbone(
        BackboneSettings(**{"weights": "random", **FAMILIES[family], **changes}), input_size=size
    )


def pretrained(family, folder, *, img_size=SIZE, **arguments):
    """Weights of a tiny model as a checkpoint file, and the model."""
    given = FAMILIES[family]
    torch.manual_seed(1)
    model = timm.create_model(
        given["name"], img_size=img_size, num_classes=0, **given["arguments"], **arguments
    ).eval()
    path = folder / "model.safetensors"
    save_file(model.state_dict(), path)
    return path, model


@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_have_the_stated_shapes(family):
    vit = backbone(family)
    shape = vit.token_shape("float16")
    registers = 4 if family == "dinov3" else 0
    assert (shape.n_blocks, shape.grid, shape.n_channels) == (3, (2, 4), 48)
    assert shape.n_registers == registers
    blocks = vit.tokens(torch.rand(5, 3, *SIZE))
    assert len(blocks) == 3
    for tokens in blocks:
        assert set(tokens) == set(shape.kinds())
        for kind, values in tokens.items():
            assert values.shape == (5, *shape.item(kind))


@pytest.mark.parametrize("family", ["dinov3", "dino"])
def test_a_local_file_gives_its_own_tokens(family, tmp_path):
    path, model = pretrained(family, tmp_path)
    vit = backbone(family, weights=str(path))
    images = torch.rand(3, 3, *SIZE)
    with torch.inference_mode():
        expected = model.forward_intermediates(
            images, return_prefix_tokens=True, output_fmt="NLC", intermediates_only=True
        )
    for tokens, (patches, prefix) in zip(vit.tokens(images), expected, strict=True):
        torch.testing.assert_close(tokens["patches"].flatten(1, 2), patches)
        torch.testing.assert_close(tokens["cls"], prefix[:, 0])
    assert vit.weights.source == "file" and len(vit.weights.label) == 64


def test_a_pth_file_and_a_safetensors_file_load_the_same(tmp_path):
    path, model = pretrained("dino", tmp_path)
    torch.save(model.state_dict(), tmp_path / "model.pth")
    images = torch.rand(2, 3, *SIZE)
    one = backbone(weights=str(path)).tokens(images)[-1]["cls"]
    other = backbone(weights=str(tmp_path / "model.pth")).tokens(images)[-1]["cls"]
    assert torch.equal(one, other)


def test_patch_14_weights_are_resampled_to_16(tmp_path):
    path, _ = pretrained("dinov2", tmp_path, img_size=(28, 56))
    vit = backbone("dinov2", weights=str(path))
    assert vit.grid == (2, 4)
    weight = vit.model.patch_embed.proj.weight
    assert weight.shape[-2:] == (16, 16) and torch.isfinite(weight).all()


def test_a_classifier_in_the_file_is_left_out(tmp_path):
    model = timm.create_model("test_vit", img_size=SIZE)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    vit = create_backbone(
        BackboneSettings(name="test_vit", weights=str(tmp_path / "model.safetensors")),
        input_size=SIZE,
    )
    assert torch.equal(vit.model.cls_token, model.cls_token)
    assert vit.mean == (0.5, 0.5, 0.5)


def test_constants_come_from_the_checkpoint_s_configuration():
    assert backbone("dino").mean == (0.485, 0.456, 0.406)


def test_random_weights_follow_seed_and_gain():
    images = torch.rand(2, 3, *SIZE)
    tokens = [
        backbone(seed=seed, gain=gain).tokens(images)[-1]["cls"]
        for seed, gain in ((0, 1.0), (0, 1.0), (1, 1.0), (0, 2.0))
    ]
    assert torch.equal(tokens[0], tokens[1])
    assert not torch.allclose(tokens[0], tokens[2])
    assert not torch.allclose(tokens[0], tokens[3])


def test_bfloat16_is_used_only_when_asked_for():
    images = torch.rand(4, 3, *SIZE)
    exact = backbone().tokens(images)[-1]["cls"]
    rough = backbone(precision="bfloat16").tokens(images)[-1]["cls"].float()
    assert not torch.equal(exact, rough)
    assert np.corrcoef(exact.flatten(), rough.flatten())[0, 1] > 0.99


def test_no_gradients_and_evaluation_mode():
    vit = backbone()
    assert not vit.model.training
    assert not any(p.requires_grad for p in vit.model.parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "vit_smal_patch16_224.dino"}, 'did you mean "vit_small_patch16_224.dino"'),
        ({"name": "resnet18"}, "with arguments it takes"),
        ({"arguments": {"dept": 3}}, "with arguments it takes"),
        ({"weights": "absent.safetensors"}, "no such file"),
    ],
)
def test_bad_settings_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        backbone(**changes)


def test_a_model_without_intermediate_outputs_is_refused(monkeypatch):
    monkeypatch.setattr("stages.backbones.architecture.family_of", lambda model: None)
    with pytest.raises(UserError, match="no intermediate outputs to read: name one such as"):
        backbone()


@pytest.mark.parametrize("size", [(30, 64), (32, 63)])
def test_an_input_the_patch_does_not_divide_is_refused(size):
    with pytest.raises(UserError, match="not a multiple of the patch size 16x16"):
        backbone(size=size)


def test_dinov2_at_its_own_patch_14_refuses_64x128():
    with pytest.raises(UserError, match="14x14"):
        backbone("dinov2", patch_size=None, size=(64, 128))


def test_weights_of_another_architecture_are_refused(tmp_path):
    path, _ = pretrained("dino", tmp_path)
    with pytest.raises(UserError, match=r"do not fit vit_small_patch16_224\.dino"):
        backbone("dino", weights=str(path), arguments={**FAMILIES["dino"]["arguments"], "depth": 4})
    with pytest.raises(UserError, match="vit_small_patch16_dinov3"):
        backbone("dinov3", weights=str(path))


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth"])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"not a checkpoint at all")
    with pytest.raises(UserError, match="cannot be read as a checkpoint"):
        backbone(weights=str(tmp_path / name))


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path):
    class Harmful:
        def __reduce__(self):
            return (open, (str(tmp_path / "harm"), "w"))

    torch.save({"weight": Harmful()}, tmp_path / "weights.pth")
    with pytest.raises(UserError, match="cannot be read as a checkpoint"):
        backbone(weights=str(tmp_path / "weights.pth"))
    assert not (tmp_path / "harm").exists()


def test_an_unreachable_hub_names_the_way_out(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"set backbone\.weights to its path"):
        create_backbone(BackboneSettings(name="vit_small_patch16_dinov3.lvd1689m"), input_size=SIZE)


def test_a_model_without_a_tag_has_no_hub_weights():
    with pytest.raises(UserError, match="add its tag"):
        create_backbone(BackboneSettings(name="vit_small_patch16_36x1_224"), input_size=SIZE)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"cache_dir": "elsewhere"}, "cache_dir is no argument of the model's own"),
        ({"pretrained_cfg": "x"}, "pretrained_cfg is no argument"),
        ({"depth": 10**6}, "lower it"),
        ({"depth": 1001}, "more than 1000 blocks"),
        ({"depth": "x"}, "with arguments it takes"),
        ({"depth": 0}, "cannot see an image"),
        ({"embed_dim": 10**9}, "lower it"),
    ],
)
def test_arguments_that_timm_takes_or_that_take_all_memory(arguments, told):
    settings = BackboneSettings(name="vit_small_patch16_dinov3", arguments=arguments)
    with pytest.raises(UserError, match=told):
        plan_token_shape(settings, input_size=SIZE, dtype="float16")


def test_compressed_weights_are_refused_unread(tmp_path):
    torch.save({"weight": torch.zeros(10**6)}, tmp_path / "plain.pth")
    with (
        zipfile.ZipFile(tmp_path / "plain.pth") as plain,
        zipfile.ZipFile(tmp_path / "small.pth", "w", zipfile.ZIP_DEFLATED) as small,
    ):
        for name in plain.namelist():
            small.writestr(name, plain.read(name))
    with pytest.raises(UserError, match=r"small\.pth are compressed, as torch never saves them"):
        backbone(weights=str(tmp_path / "small.pth"))


def test_weights_that_change_while_they_are_read_are_refused(tmp_path, monkeypatch):
    path, _ = pretrained("dino", tmp_path)

    def replaced(path, names):
        checkpoint = read_weights(path, names)
        save_file({key: value + 1 for key, value in checkpoint.state.items()}, path)
        return checkpoint

    monkeypatch.setattr("stages.backbones.loading.read_weights", replaced)
    with pytest.raises(UserError, match="changed while they were read: run again"):
        backbone(weights=str(path))
