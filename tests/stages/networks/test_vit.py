"""Backbones with readouts, from prepared images: the tokens are those that a cache holds."""

import pytest
import torch

from stages.backbones import BackboneSettings, create_backbone
from stages.networks.vit import ViTReadouts
from stages.readouts.readout import Readout

SMALL = {"depth": 3, "embed_dim": 48, "num_heads": 3}


@pytest.mark.parametrize(
    ("given", "blocks", "tokens"),
    [
        ({"name": "swin_tiny_patch4_window7_224", "arguments": {"embed_dim": 24}}, [1], "patch"),
        ({"name": "test_resnet"}, [4], "patch"),
        ({"name": "vit_small_r26_s32_224", "arguments": SMALL}, [1], "cls"),
        ({"name": "hiera_tiny_224", "arguments": {"embed_dim": 24}}, [1, 2], "patch"),
        ({"name": "beit_base_patch16_224", "arguments": SMALL}, [0, 2], "cls"),
        ({"name": "vit_base_patch16_siglip_224", "arguments": SMALL}, [1], "patch"),
        ({"name": "vit_small_patch16_dinov3", "arguments": SMALL, "stride": 8}, [1, 2], "patch"),
        ({"name": "vit_small_patch16_dinov3", "arguments": SMALL, "stride": 8}, [1], "cls"),
        (
            {
                "name": "vit_small_patch16_dinov3",
                "arguments": SMALL,
                "stride": 8,
                "dense": "overlap",
            },
            [1],
            "patch",
        ),
    ],
)
def test_rates_are_those_of_the_cached_tokens_with_gradients(given, blocks, tokens):
    backbone = create_backbone(BackboneSettings(weights="random", **given), input_size=(32, 64))
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 32, 64, generator=rng, requires_grad=True)
    every = backbone.tokens(x.detach())
    kind = "patches" if tokens == "patch" else "cls"
    read = torch.cat([every[block][kind] for block in blocks], dim=-1)
    read = read if tokens == "patch" else read[:, None, None]
    _, rows, columns, channels = read.shape
    readout = Readout(
        row_weights=torch.rand(3, rows, generator=rng),
        column_weights=torch.rand(3, columns, generator=rng),
        channel_weights=torch.randn(3, channels, generator=rng),
        bias=torch.zeros(3),
    )
    expected = readout(read).detach()
    assert expected.std() > 0
    network = ViTReadouts(backbone, readout, blocks=blocks, tokens=tokens)
    found = network(x)
    torch.testing.assert_close(found, expected)
    found.sum().backward()
    assert x.grad.abs().sum() > 0
