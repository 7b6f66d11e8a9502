"""Every family of timm's backbones: tokens as the model itself gives them, and where they lie."""

from itertools import pairwise

import pytest
import timm
import torch
from safetensors.torch import save_file
from support.every_family import MODELS, SIZE, images, own_outputs, settings
from torch import nn

from cache import UserError
from stages.backbones.backbone import counted_operations, create_backbone, plan_token_shape
from stages.backbones.lattices import followed
from stages.backbones.settings import BackboneSettings


@pytest.mark.parametrize("family", MODELS)
def test_tokens_are_the_model_s_own_and_blocks_differ(family):
    *_, modules, layout = MODELS[family]
    backbone, x = create_backbone(settings(family), input_size=SIZE), images(8)
    shape = plan_token_shape(settings(family), input_size=SIZE, dtype="float32")
    assert shape == backbone.token_shape("float32")
    tokens = backbone.tokens(x)
    assert len(tokens) == shape.n_blocks
    for block, kinds in enumerate(tokens):
        assert set(kinds) == set(shape.kinds())
        for kind, values in kinds.items():
            assert values.shape == (8, *shape.item(kind, block)) and values.abs().max() < 6e4
            assert values.var(0).mean() > (0.1 if kind == "patches" else 1e-3) * values.var()
        # Were it brightness alone that they tell of an image, this would be 1.
        assert dimensions(kinds["patches"]) > 1.9
    if modules is not None:
        own = dict(own_outputs(backbone.model, modules, layout, x, shape))
        assert len(own) >= shape.n_blocks - 1
        for block, expected in own.items():
            torch.testing.assert_close(tokens[block]["patches"], expected, rtol=1e-5, atol=1e-5)
    for one, other in pairwise(tokens):
        a, b = (each["patches"] - each["patches"].mean(0) for each in (one, other))
        if a.shape == b.shape:
            assert torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1] < 0.95


def dimensions(patches):
    """Of what channels tell of images: the participation ratio of their components."""
    told = (patches - patches.mean(0)).flatten(0, 2)
    variances = torch.linalg.svdvals(told).square()
    return variances.sum().square() / variances.square().sum()


@pytest.mark.parametrize(
    ("family", "strides", "first", "kinds"),
    [
        ("without CLS", [16], [8], "patches"),
        ("XCiT", [8], [0.5], "patches"),
        ("Swin", [4, 8, 16, 32], [2, 4, 8, 16], "patches"),
        ("Hiera", [4, 8, 16, 32], [0.5, 2.5, 6.5, 14.5], "patches"),
        ("PVTv2", [4, 8, 16, 32], [0.5] * 4, "patches"),
        ("ConvNeXt", [4, 8, 16, 32], [2, 4, 8, 16], "patches"),
        ("VGG", [1, 2, 4, 8, 16, 32], [0.5, 1, 2, 4, 8, 16], "patches"),
        ("hybrid of patches", [32], [17.5], "patches cls"),
    ],
)
def test_grids_follow_from_true_strides(family, strides, first, kinds):
    shape = plan_token_shape(settings(family), input_size=SIZE, dtype="float16")
    assert " ".join(shape.kinds()) == kinds
    places = list(dict.fromkeys(block.places for block in shape.blocks))
    assert [p.stride[0] for p in places] == strides
    assert [p.first_centre[1] for p in places] == first
    for block in shape.blocks:
        stride = block.places.stride
        assert block.grid == (SIZE[0] // stride[0], SIZE[1] // stride[1])


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Conv2d(1, 1, 7, 2, 3), nn.MaxPool2d(3, 2, 1), nn.Conv2d(1, 1, 3, 2, 1)],
        [nn.Conv2d(1, 1, 4, 4), nn.Conv2d(1, 1, 2, 2)],
        [nn.Conv2d(1, 1, 16, 8), nn.Conv2d(1, 1, 3, 2, 1)],
        [nn.Conv2d(1, 1, 3, 2, 1, dilation=2), nn.AvgPool2d(2)],
    ],
)
def test_centres_are_those_of_what_a_token_sees(layers):
    """Of linear layers alone, the middle of the pixels with a gradient."""
    chain = nn.Sequential(*(nn.AvgPool2d(m.kernel_size, m.stride, m.padding)
                            if isinstance(m, nn.MaxPool2d) else m for m in layers))  # fmt: skip
    for parameter in chain.parameters():
        nn.init.ones_(parameter)
    x = torch.zeros(1, 1, *SIZE, requires_grad=True)
    with followed(chain, SIZE) as lattices:
        out = chain(x)
    row, column = (n // 2 for n in out.shape[2:])
    out[0, 0, row, column].backward()
    seen = torch.nonzero(x.grad[0, 0]).double() + 0.5
    places = lattices.places(tuple(out.shape[2:]))
    found = [first + at * stride for first, at, stride in
             zip(places.first_centre, (row, column), places.stride, strict=True)]  # fmt: skip
    middle = (seen.amin(0) + seen.amax(0)) / 2
    torch.testing.assert_close(torch.tensor(found, dtype=torch.float64), middle)


@pytest.mark.parametrize("family", ["Swin", "ConvNeXt", "ResNet", "XCiT", "without CLS"])
def test_a_checkpoint_with_a_classifier_gives_its_own_tokens(family, tmp_path):
    name, arguments, *_ = MODELS[family]
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=7, **arguments).eval()
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    given = settings(family, weights=str(tmp_path / "w.safetensors"))
    size = (224, 224)
    backbone = create_backbone(given, input_size=size)
    x = images(1, size)
    with torch.inference_mode():
        own = model.forward_intermediates(x, intermediates_only=True)
    for kinds, expected in zip(backbone.tokens(x), own, strict=True):
        torch.testing.assert_close(kinds["patches"].permute(0, 3, 1, 2), expected)
    lacking = {n: v for n, v in model.state_dict().items() if "norm" not in n and "bn" not in n}
    save_file(lacking, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match="do not fit"):
        create_backbone(given, input_size=size)


@pytest.mark.parametrize("prefix", ["model.", "backbone.", "module.", "module.model.backbone."])
@pytest.mark.parametrize("family", ["Swin", "ConvNeXt", "ResNet", "without CLS"])
def test_checkpoints_whose_names_have_a_prefix_are_loaded(family, prefix, tmp_path):
    """As Lightning and torch's own wrappers write them, with parts of a training beside."""
    name, arguments, *_ = MODELS[family]
    sized = {"img_size": SIZE} if family in ("Swin", "without CLS") else {}
    state = timm.create_model(name, num_classes=0, **sized, **arguments).state_dict()
    wrapped = {prefix + n: v for n, v in state.items()} | {"loss.weight": torch.ones(2)}
    torch.save({"state_dict": wrapped, "epoch": 3}, tmp_path / "w.ckpt.pth")
    given = settings(family, weights=str(tmp_path / "w.ckpt.pth"))
    made = create_backbone(given, input_size=SIZE)
    for n, value in made.model.state_dict().items():
        assert torch.equal(value, state[n]), n


def test_a_window_that_does_not_divide_the_input_is_padded_as_in_timm():
    backbone = create_backbone(settings("Swin"), input_size=(72, 120))
    assert [b.grid for b in backbone.shape.blocks] == [(18, 30), (9, 15), (5, 8), (3, 4)]
    x = images(2, (72, 120))
    own = own_outputs(backbone.model, "layers.{}", "NHWC", x, backbone.shape)
    for block, expected in own:
        torch.testing.assert_close(backbone.tokens(x)[block]["patches"], expected)


def test_a_model_of_one_size_is_refused_elsewhere_by_that_size():
    fixed = BackboneSettings(name="efficientformer_l1", weights="random")
    with pytest.raises(UserError, match=r"cannot see an image of 64x128 .* \[224, 224\]"):
        plan_token_shape(fixed, input_size=SIZE, dtype="float16")
    shape = plan_token_shape(fixed, input_size=(224, 224), dtype="float16")
    assert [b.grid for b in shape.blocks] == [(56, 56), (28, 28), (14, 14), (7, 7)]


@pytest.mark.parametrize(
    ("name", "published"), [("resnet18", 1.82e9), ("swin_tiny_patch4_window7_224", 4.5e9)]
)
def test_operations_are_those_that_are_published(name, published):
    """Multiplications with additions at 224 x 224 (He et al. 2015, Liu et al. 2021), each two."""
    counted = counted_operations(BackboneSettings(name=name), input_size=(224, 224))
    assert counted == pytest.approx(2 * published, rel=0.05)


@pytest.mark.parametrize("family", ["Swin", "hybrid /32", "ConvNeXt"])
def test_a_stride_of_what_has_no_patches_is_refused(family):
    with pytest.raises(UserError, match="no square patches of its own: drop it"):
        plan_token_shape(settings(family, stride=2), input_size=SIZE, dtype="float16")


def test_random_weights_follow_seed_and_gain():
    x = images(1)
    one, same, other, grown = (
        create_backbone(settings("ConvNeXt", **changes), input_size=SIZE).tokens(x)[2]["patches"]
        for changes in ({}, {}, {"seed": 1}, {"gain": 3.0})
    )
    assert torch.equal(one, same)
    assert not torch.allclose(one, other) and not torch.allclose(one, grown)
