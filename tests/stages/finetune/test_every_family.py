"""Tuning of every family whose layers are defined, and of passes over shifted images."""

import copy
from dataclasses import replace

import pytest
import torch
from support.every_family import settings
from support.tiny import FAMILIES

from stages.backbones import BackboneSettings, create_backbone
from stages.finetune.model import TunedViT
from stages.readouts.readout import Readout

SIZE = (32, 64)
SHIFTED = {"weights": "random", "stride": 8, **FAMILIES["dinov3"]}
#: Settings, and how the names of what is tuned with the last layer at block 1 begin.
CASES = {
    "without CLS": (settings("without CLS"), "blocks.1."),
    "Swin": (settings("Swin"), "layers.1."),
    "SwinV2": (settings("SwinV2"), "layers.1."),
    "hybrid": (settings("hybrid /32"), "blocks.1."),
    "shifted": (BackboneSettings(**SHIFTED), "blocks.1."),
    "shifted without CLS": (settings("without CLS", stride=8), "blocks.1."),
}


@pytest.fixture(scope="module", params=CASES)
def case(request):
    given, begin = CASES[request.param]
    return create_backbone(given, input_size=SIZE), begin


def images(n=2):
    return torch.randn(n, 3, *SIZE, generator=torch.Generator().manual_seed(2))


def tuned(backbone, *, last, start="images", tokens="patch", block=1):
    shape = backbone.shape.blocks[block]
    rows, columns = shape.grid if tokens == "patch" else (1, 1)
    readout = Readout(
        row_weights=torch.ones(2, rows),
        column_weights=torch.ones(2, columns),
        channel_weights=torch.ones(2, shape.n_channels),
        bias=torch.zeros(2),
    )
    return TunedViT(backbone, readout, block=block, last=last, tokens=tokens, start=start)


def gradients(tokens, parameters):
    """Of a weighted sum of the tokens, by the names of the parameters."""
    weights = torch.randn(tokens.shape, generator=torch.Generator().manual_seed(3))
    made = torch.autograd.grad((tokens * weights).sum(), list(parameters.values()))
    return dict(zip(parameters, made, strict=True))


def cached(backbone, block):
    """Tokens of a block as they are cached, in the order that models take them in."""
    kinds = backbone.tokens(images())[block]
    parts = [kinds["cls"][:, None]] if "cls" in kinds else []
    parts += [kinds["registers"]] if "registers" in kinds else []
    return torch.cat([*parts, kinds["patches"].flatten(1, 2)], dim=1)


def starts(backbone):
    """What the last layer at block 1 is tuned from: a cache has no CLS of shifted passes."""
    yield "images", images()
    if backbone.shape.passes == 1 or not backbone.shape.has_cls:
        yield "cache", cached(backbone, 0)


@pytest.mark.parametrize("last", [1, "full"])
def test_tokens_and_gradients_are_those_of_timm_s_own_pass(case, last):
    backbone, begin = case
    free = replace(backbone, model=copy.deepcopy(backbone.model).requires_grad_())
    expected = free.tokens(images())[1]["patches"]
    of_free = dict(free.model.named_parameters())
    for start, given in starts(backbone):
        if last == "full" and start == "cache":
            continue
        model = tuned(backbone, last=last, start=start)
        found = model.tokens(given)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        names = {n.removeprefix("vit.") for n in model.trained() if n.startswith("vit.")}
        if last == 1:
            assert names == {name for name in of_free if name.startswith(begin)}
        else:
            assert {"patch_embed.proj.weight"} < names and all(
                name in names for name in of_free if name.startswith(("patch_embed.", begin))
            )
        own = {n: p for n, p in model.vit.named_parameters() if n in names}
        mine = gradients(found, own)
        for name, value in gradients(expected, {n: of_free[n] for n in own}).items():
            size = value.abs().max()
            torch.testing.assert_close(mine[name], value, rtol=1e-3, atol=1e-4 * float(size + 1e-6))
        expected = free.tokens(images())[1]["patches"]


def test_readouts_alone_are_trained_on_what_is_cached_of_every_pass(case):
    backbone, _ = case
    model = tuned(backbone, last=0, start="cache")
    assert torch.equal(model.tokens(cached(backbone, 1)), backbone.tokens(images())[1]["patches"])
    assert {name.split(".")[0] for name in model.trained()} == {"readout"}
    if backbone.shape.has_cls:
        of_cls = tuned(backbone, last=1, start="cache", tokens="cls")
        expected = backbone.tokens(images())[1]["cls"][:, None, None]
        found = of_cls.tokens(cached(backbone, 0))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
