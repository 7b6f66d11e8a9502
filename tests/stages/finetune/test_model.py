"""The truncated, partly unfrozen model: layers, modes, and the start from the cache."""

import numpy as np
import pytest
import torch
from support.tiny import FAMILIES

from cache import UserError
from stages.backbones.backbone import create_backbone
from stages.backbones.settings import BackboneSettings
from stages.finetune.model import TunedViT
from stages.finetune.task import first_tuned_block, starting_block
from stages.readouts.readout import Readout, poisson_loss

GRID = (2, 4)


@pytest.fixture(scope="module", params=FAMILIES)
def backbone(request):
    settings = BackboneSettings(weights="random", **FAMILIES[request.param])
    return create_backbone(settings, input_size=(32, 64))


@pytest.fixture(scope="module")
def dinov3():
    settings = BackboneSettings(weights="random", **FAMILIES["dinov3"])
    return create_backbone(settings, input_size=(32, 64))


def readout(n_neurons=3, grid=GRID, channels=48):
    rng = torch.Generator().manual_seed(1)
    return Readout(
        row_weights=torch.rand(n_neurons, grid[0], generator=rng),
        column_weights=torch.rand(n_neurons, grid[1], generator=rng),
        channel_weights=0.1 * torch.randn(n_neurons, channels, generator=rng),
        bias=torch.zeros(n_neurons),
    )


def images(n=32):
    return torch.randn(n, 3, 32, 64, generator=torch.Generator().manual_seed(2))


def cached(backbone, block, dtype):
    """Tokens of a block as the cache gives them, in the model's order."""
    kinds = backbone.tokens(images())[block]
    parts = [kinds["cls"][:, None], kinds.get("registers"), kinds["patches"].flatten(1, 2)]
    return torch.cat([part for part in parts if part is not None], dim=1).to(dtype).clone()


@pytest.mark.parametrize(
    ("last", "block", "first", "start"),
    [(0, 4, 5, 4), (1, 4, 4, 3), (4, 4, 1, 0), (5, 4, 0, None), (6, 4, -1, None),
     ("full", 4, -1, None), (0, 0, 1, 0), (1, 0, 0, None), (2, 0, -1, None)],
)  # fmt: skip
def test_last_counts_back_from_the_readout_block(last, block, first, start):
    assert first_tuned_block(last, block) == first
    assert starting_block(first) == start


def test_more_layers_than_there_are():
    with pytest.raises(
        UserError,
        match=r"last = 7 at block 4: only 6 layers exist \(embeddings and blocks 0\.\.4\)",
    ):
        first_tuned_block(7, 4)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "more", [{"stride": 8, "dense": "overlap", "pad": "reflect"}, {"patch_size": 8}]
)
def test_finer_backbones_are_tuned_as_they_are_extracted(family, more):
    settings = BackboneSettings(**{"weights": "random", **FAMILIES[family], **more})
    fine = create_backbone(settings, input_size=(32, 64))
    expected = fine.tokens(images())[1]["patches"]
    for start in ("images", "cache"):
        last = "full" if start == "images" else 1
        model = TunedViT(fine, readout(grid=(4, 8)), block=1, last=last, start=start)
        given = images() if start == "images" else cached(fine, 0, torch.float32)
        torch.testing.assert_close(model.tokens(given), expected, rtol=1e-4, atol=1e-5)
        model(given).sum().backward()
        assert all(weights.grad is not None for weights in model.backbone_parameters())


@pytest.mark.parametrize("block", [0, 1, 2])
@pytest.mark.parametrize("tokens", ["patch", "cls"])
def test_the_untuned_model_gives_the_backbone_s_tokens(backbone, block, tokens):
    model = TunedViT(
        backbone, readout(), block=block, last=0, tokens=tokens, precision=None, start="images"
    )
    expected = backbone.tokens(images())[block]["patches" if tokens == "patch" else "cls"]
    with torch.inference_mode():
        found = model.tokens(images())
    torch.testing.assert_close(found, expected if tokens == "patch" else expected[:, None, None])
    assert len(model.vit.blocks) == block + 1


def gradients(model, inputs):
    responses = torch.rand(len(inputs), 3, generator=torch.Generator().manual_seed(3))
    model.zero_grad()
    poisson_loss(model(inputs), responses).mean().backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 1e-3), ("float32", 1e-5)])
@pytest.mark.parametrize("last", [0, 1, 2])
@pytest.mark.parametrize("tokens", ["patch", "cls"])
def test_gradients_from_the_cache_are_those_from_the_images(
    backbone, dtype, tolerance, last, tokens
):
    grid = GRID if tokens == "patch" else (1, 1)
    made = {"block": 2, "last": last, "tokens": tokens}
    from_images = TunedViT(backbone, readout(grid=grid), start="images", **made)
    from_cache = TunedViT(backbone, readout(grid=grid), start="cache", **made)
    expected = gradients(from_images, images())
    found = gradients(from_cache, cached(backbone, 2 - last, getattr(torch, dtype)))
    assert found.keys() == expected.keys()
    assert {name.split(".")[0] for name in found} == ({"readout", "vit"} if last else {"readout"})
    parts = [*expected, None] if dtype == "float32" else [None]
    for part in parts:
        names = expected if part is None else [part]
        one, other = (torch.cat([g[n].flatten() for n in names]) for g in (found, expected))
        assert (one - other).norm() < tolerance * other.norm() + 1e-9, part


def test_registers_and_rope_matter_to_the_cached_start(dinov3):
    """What the test above would not see if they did nothing."""
    model = TunedViT(dinov3, readout(), block=2, last=1, start="cache")
    tokens = cached(dinov3, 1, torch.float32)
    swapped = torch.cat([tokens[:, 1:5], tokens[:, :1], tokens[:, 5:]], dim=1)
    shuffled = torch.cat([tokens[:, :5], tokens[:, 5:].flip(1)], dim=1)
    with torch.inference_mode():
        expected = model.tokens(tokens)
        assert torch.allclose(model.tokens(swapped), expected, atol=1e-5)  # order among prefix
        assert not torch.allclose(model.tokens(shuffled).flatten(1, 2).flip(1),
                                  expected.flatten(1, 2), atol=1e-3)  # fmt: skip
        tokens[:, 1:5] = 0
        assert not torch.allclose(model.tokens(tokens), expected, atol=1e-3)


EMBEDDINGS = {
    "dinov3": {"cls_token", "reg_token", "patch_embed.proj.weight", "patch_embed.proj.bias"},
    "dinov2": {"cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"},
    "dino": {"cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"},
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("last", [0, 1, 2, 3, "full"])
def test_which_parameters_are_trained(family, last):
    settings = BackboneSettings(weights="random", **FAMILIES[family])
    backbone = create_backbone(settings, input_size=(32, 64))
    trained = TunedViT(backbone, readout(), block=1, last=last).trained()
    names = {name.removeprefix("vit.") for name in trained if name.startswith("vit.")}
    layers = {".".join(n.split(".")[:2]) for n in names if n.startswith("blocks.")}
    tuned = 3 if last == "full" else last
    assert layers == {f"blocks.{1 - i}" for i in range(min(tuned, 2))}
    embeddings = {n for n in names if not n.startswith("blocks.")}
    assert embeddings == (EMBEDDINGS[family] if tuned == 3 else set())
    assert trained["readout.channel_weights"] == 3 * 48
    assert not any(p.requires_grad for p in backbone.model.parameters())


def test_a_step_changes_what_is_tuned_and_nothing_else(backbone):
    model = TunedViT(backbone, readout(), block=1, last=1, start="images")
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trained = model.trained()
    optimizer = torch.optim.AdamW(model.backbone_parameters() + model.readout_parameters(), lr=0.1)
    gradients(model, images())
    optimizer.step()
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert changed == {n for n in trained if before[n].numel()}
    assert all(
        torch.equal(p, before[f"vit.{n}"])
        for n, p in backbone.model.named_parameters()
        if f"vit.{n}" in before
    )


def test_the_backbone_stays_in_evaluation_mode():
    """Dropped paths and dropout, where a model is asked to have them, would change its tokens."""
    settings = BackboneSettings(
        name="vit_small_patch16_dinov3",
        weights="random",
        arguments={**FAMILIES["dinov3"]["arguments"], "drop_path_rate": 0.5, "proj_drop_rate": 0.5},
    )
    model = TunedViT(create_backbone(settings, input_size=(32, 64)), readout(), block=2, last=2)
    model.train()
    assert not any(module.training for module in model.vit.modules())
    assert torch.equal(model.tokens(images()), model.tokens(images()))


def test_an_axis_of_one_keeps_its_weight(dinov3):
    model = TunedViT(dinov3, readout(grid=(1, 1)), block=1, last=0, tokens="cls")
    assert model.trained() == {"readout.channel_weights": 144, "readout.bias": 3}


def test_block_0_cannot_start_from_the_cache(dinov3):
    for last in (3, 4, "full"):
        with pytest.raises(UserError, match="start from images"):
            TunedViT(dinov3, readout(), block=2, last=last, start="cache")


def test_bfloat16_is_close_and_gives_float32(dinov3):
    exact = TunedViT(dinov3, readout(), block=2, last=1)
    fast = TunedViT(dinov3, readout(), block=2, last=1, precision="bfloat16")
    with torch.inference_mode():
        expected, found = exact.tokens(images()), fast.tokens(images())
    assert found.dtype == torch.float32 and not torch.equal(found, expected)
    assert np.corrcoef(found.flatten(), expected.flatten())[0, 1] > 0.999


def test_rotary_coordinates_are_rescaled_in_training_only(dinov3):
    """By one factor for all positions and frequencies, between a half and two."""
    settings = BackboneSettings(weights="random", **FAMILIES["dinov3"]).rescaling(2.0)
    made = create_backbone(settings, input_size=(32, 64))
    model = TunedViT(made, readout(), block=1, last=1, rescaled=True)

    def angles():
        _, rotary = model.family.embed(model.vit, images())
        sin, cos = rotary.chunk(2, dim=-1)
        return torch.atan2(sin, cos)[:, 1:4]  # of frequencies low enough to stay within a turn

    frozen = dinov3.tokens(images())[1]["patches"]
    with torch.inference_mode():
        torch.testing.assert_close(model.eval().tokens(images()), frozen)
        plain = angles()
        model.train()
        torch.manual_seed(0)
        ratios = [angles() / plain for _ in range(8)]
    factors = [ratio.mean() for ratio in ratios]
    for ratio, factor in zip(ratios, factors, strict=True):
        torch.testing.assert_close(ratio, factor.expand_as(ratio))
    assert len(set(factors)) == 8 and all(0.5 <= factor <= 2 for factor in factors)
    assert not model.vit.blocks.training
