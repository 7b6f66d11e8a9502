"""Backbones with readouts, from prepared images: the tokens are those that a cache holds."""

import pytest
import torch

from stages.backbones import BackboneSettings, create_backbone
from stages.networks.vit import ViTReadouts
from stages.readouts.readout import Readout

SMALL = {"depth": 3, "embed_dim": 48, "num_heads": 3}


@pytest.mark.parametrize(
    ("sampling", "blocks", "tokens"),
    [
        ({}, [0, 2], "patch"),
        ({"stride": 8}, [1, 2], "patch"),
        ({"stride": 8}, [1], "cls"),
        ({"stride": 8, "dense": "overlap"}, [1], "patch"),
    ],
)
def test_rates_are_those_of_the_cached_tokens_with_gradients(sampling, blocks, tokens):
    settings = BackboneSettings(
        name="vit_small_patch16_dinov3", weights="random", arguments=SMALL, **sampling
    )
    backbone = create_backbone(settings, input_size=(32, 64))
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
