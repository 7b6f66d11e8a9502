"""Tokens denser than patches: shifted passes, overlapping patches, and patches of another size."""

import numpy as np
import pytest
import timm
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from support.tiny import FAMILIES
from timm.layers import resample_patch_embed
from torch.nn.functional import interpolate

from cache import Places, UserError
from stages.backbones import block_operations
from stages.backbones.backbone import Backbone, create_backbone, plan_token_shape
from stages.backbones.settings import BackboneSettings
from stages.extract import extraction_cost

SIZE = (32, 64)


def settings(family="dino", **changes):
    return BackboneSettings(**{"weights": "random", **FAMILIES[family], **changes})


def made(family="dino", **changes):
    return create_backbone(settings(family, **changes), input_size=SIZE)


def images(n=3):
    return torch.from_numpy(np.random.default_rng(0).standard_normal((n, 3, *SIZE))).float()


def direct(model, x):
    """Patch and prefix tokens of the last block, straight from timm."""
    with torch.inference_mode():
        blocks = model.forward_intermediates(
            x, return_prefix_tokens=True, output_fmt="NLC", intermediates_only=True
        )
    return blocks[-1]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("stride", [8, 4])
def test_shifted_tokens_are_direct_passes_interleaved(family, stride):
    x, vit, model = images(), made(family, stride=stride), made(family).model
    found, steps = vit.tokens(x)[-1], 16 // stride
    # Mirrored without the edge itself, as numpy's "reflect" does.
    wide = np.pad(x.numpy(), ((0, 0), (0, 0), (0, 16), (0, 16)), mode="reflect")
    for i in range(steps):
        for j in range(steps):
            up, left = i * stride, j * stride
            seen = torch.from_numpy(wide[..., up : up + SIZE[0], left : left + SIZE[1]].copy())
            patches, prefix = direct(model, seen)
            part = found["patches"][:, i::steps, j::steps]
            torch.testing.assert_close(part.flatten(1, 2), patches, rtol=1e-5, atol=1e-5)
            if i == j == 0:
                torch.testing.assert_close(found["cls"], prefix[:, 0], rtol=1e-5, atol=1e-5)
                if family == "dinov3":
                    torch.testing.assert_close(found["registers"], prefix[:, 1:])


@pytest.mark.parametrize("stride", [16, 8, 4])
def test_a_batch_takes_as_many_passes_as_there_are_shifts(stride, monkeypatch):
    seen, inner = [], Backbone.one_pass

    def counted(self, x):
        seen.append(len(x))
        return inner(self, x)

    monkeypatch.setattr(Backbone, "one_pass", counted)
    made(stride=stride).tokens(images(5))
    assert seen == [5] * (16 // stride) ** 2


def overlapping(family, stride, padded):
    """A plain model of timm that is changed by hand: stride, positions, images."""
    model, x = made(family).model, images()
    if padded:
        far = 16 - stride
        x = torch.from_numpy(
            np.pad(x.numpy(), ((0, 0), (0, 0), (0, far), (0, far)), mode="reflect")
        )
    embed = model.patch_embed
    embed.proj.stride, embed.img_size = (stride, stride), None
    rows, columns = ((n - 16) // stride + 1 for n in x.shape[-2:])
    centres = torch.cartesian_prod(
        8 + stride * torch.arange(rows), 8 + stride * torch.arange(columns)
    )
    if model.pos_embed is not None:
        with torch.no_grad():
            places = model.pos_embed[:, 1:].unflatten(1, (2, 4))[0].numpy()
            fine = bicubic(places, (centres.numpy() - 8) / 16)
            model.pos_embed = torch.nn.Parameter(
                torch.cat([model.pos_embed[:, :1], torch.from_numpy(fine)[None]], dim=1)
            )
    if getattr(model, "rope", None) is not None:
        # DINOv3's coordinates: centres from -1 to 1 over the image as it was.
        coordinates = 2 * centres / torch.tensor(SIZE) - 1
        embedding = torch.cat(model.rope._get_pos_embed_from_coords(coordinates), dim=-1)
        model.rope.get_embed = lambda *_, **__: embedding
    return (*direct(model, x), (rows, columns))


def bicubic(places, where, a=-0.75):
    """Keys' cubic convolution of an array (row, column, channel), its edges repeated."""

    def weights(at, n):
        matrix = np.zeros((len(at), n))
        for k in range(-2, n + 2):
            d = np.abs(at - k)
            near = (a + 2) * d**3 - (a + 3) * d**2 + 1
            far = a * (d**3 - 5 * d**2 + 8 * d - 4)
            matrix[:, min(max(k, 0), n - 1)] += np.where(d <= 1, near, np.where(d < 2, far, 0))
        return matrix

    rows, columns = (weights(where[:, axis], places.shape[axis]) for axis in (0, 1))
    return np.einsum("nr,nc,rck->nk", rows, columns, places).astype(np.float32)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("stride", "pad"), [(8, None), (4, None), (8, "reflect")])
def test_overlapping_tokens_are_those_of_a_model_changed_by_hand(family, stride, pad):
    found = made(family, stride=stride, dense="overlap", pad=pad).tokens(images())[-1]
    patches, prefix, grid = overlapping(family, stride, pad is not None)
    assert tuple(found["patches"].shape[1:3]) == grid
    torch.testing.assert_close(found["patches"].flatten(1, 2), patches, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found["cls"], prefix[:, 0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "name", ["vit_small_patch16_rope_224", "vit_small_patch16_rope_mixed_ape_224"]
)
def test_other_rotary_embeddings_are_those_of_the_plain_grid_at_its_places(name):
    given = {"name": name, "arguments": {"depth": 1, "embed_dim": 48, "num_heads": 3}}
    plain, fine = (
        create_backbone(BackboneSettings(weights="random", **given, **more), input_size=SIZE)
        for more in ({}, {"stride": 8, "dense": "overlap"})
    )
    one, many = plain.model.rope.get_embed(), fine.model.rope.get_embed()
    at_places = many.unflatten(-2, (3, 7))[..., ::2, ::2, :].flatten(-3, -2)
    torch.testing.assert_close(at_places, one)
    assert not torch.equal(many[..., 1, :], many[..., 0, :])


def test_a_rotary_embedding_whose_coordinates_are_unknown_is_refused(monkeypatch):
    monkeypatch.delattr("timm.layers.RotaryEmbeddingDinoV3.update_feat_shape")
    rope = made("dinov3").model.rope
    del rope.grid_offset
    from stages.backbones.overlap import FineRotary

    with pytest.raises(TypeError, match="RotaryEmbeddingDinoV3"):
        FineRotary(rope, (2, 4), 2, (3, 7))


@pytest.mark.parametrize(
    ("changes", "grid", "passes"),
    [
        ({}, (4, 8), 1),
        ({"stride": 16}, (4, 8), 1),
        ({"stride": 8}, (8, 16), 4),
        ({"stride": 4}, (16, 32), 16),
        ({"stride": 8, "dense": "overlap"}, (7, 15), 1),
        ({"stride": 8, "dense": "overlap", "pad": "reflect"}, (8, 16), 1),
        ({"patch_size": 8}, (8, 16), 1),
        ({"patch_size": 4}, (16, 32), 1),
        ({"patch_size": 8, "stride": 4}, (16, 32), 4),
    ],
)
def test_grids_places_and_cost_are_known_without_weights(changes, grid, passes):
    shape = plan_token_shape(settings(**changes), input_size=(64, 128), dtype="float16")
    patch = changes.get("patch_size", 16)
    stride = changes.get("stride", patch)
    assert shape.grid == grid
    assert shape.places == Places(
        stride=(stride, stride), first_centre=(patch / 2, patch / 2), passes=passes
    )
    one = plan_token_shape(settings(patch_size=patch), input_size=(64, 128), dtype="float16")
    if passes > 1:
        assert block_operations(shape) == passes * block_operations(one)
        costs = [extraction_cost(s, n_images=100).core_seconds for s in (shape, one)]
        assert costs[0] == pytest.approx(passes * costs[1])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("patch", [8, 4])
def test_weights_of_a_larger_patch_are_resampled(family, patch, tmp_path):
    given = FAMILIES[family]
    torch.manual_seed(1)
    model = timm.create_model(
        given["name"], img_size=28 if family == "dinov2" else 32, num_classes=0,
        **given["arguments"],
    )  # fmt: skip
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    vit = made(family, weights=str(tmp_path / "model.safetensors"), patch_size=patch)
    assert vit.grid == (32 // patch, 64 // patch)
    assert vit.model.patch_embed.proj.weight.shape[-2:] == (patch, patch)
    found = vit.tokens(images())[-1]["patches"]
    assert found.shape[1:3] == vit.grid and torch.isfinite(found).all()
    assert "patch embedding resampled" in " ".join(vit.weights.adapted)
    expected = resample_patch_embed(model.patch_embed.proj.weight, [patch, patch])
    torch.testing.assert_close(vit.model.patch_embed.proj.weight, expected)
    if family == "dinov3":
        centres = patch * (0.5 + torch.cartesian_prod(*map(torch.arange, vit.grid)))
        embedding = model.rope._get_pos_embed_from_coords(2 * centres / torch.tensor(SIZE) - 1)
        found = vit.family.rotary(vit.model, vit.grid)
        torch.testing.assert_close(found, torch.cat(embedding, dim=-1))
    else:
        places = model.pos_embed[:, 1:].unflatten(1, (2, 2)).permute(0, 3, 1, 2)
        fine = interpolate(places, vit.grid, mode="bicubic", antialias=True)
        torch.testing.assert_close(vit.model.pos_embed[:, 1:], fine.flatten(2).mT)


def test_dino_s_own_patches_of_8_are_as_they_are():
    name = "vit_small_patch8_224.dino"
    vit = create_backbone(settings(name=name), input_size=SIZE)
    assert vit.grid == (4, 8) and vit.sampling.places.first_centre == (4, 4)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"dense": "shift"}, 'dense = "shift" needs a stride'),
        ({"pad": "reflect"}, 'pad = "reflect" needs a stride'),
        ({"stride": 8, "pad": "reflect"}, 'is for dense = "overlap"'),
        ({"stride": 8, "dense": "shift", "pad": "reflect"}, 'is for dense = "overlap"'),
    ],
)
def test_settings_that_do_not_go_together_are_refused(changes, told):
    with pytest.raises(ValidationError, match=told):
        settings(**changes)


@pytest.mark.parametrize("stride", [5, 32])
def test_a_stride_that_does_not_divide_the_patch_is_refused(stride):
    with pytest.raises(
        UserError, match=rf"stride = {stride} does not divide .* \[1, 2, 4, 8, 16\]"
    ):
        plan_token_shape(settings(stride=stride), input_size=SIZE, dtype="float16")


def test_a_model_without_patches_of_its_own_is_refused():
    hybrid = BackboneSettings(name="vit_tiny_r_s16_p8_224", weights="random", stride=4)
    with pytest.raises(UserError, match="has no square patches of its own"):
        plan_token_shape(hybrid, input_size=(64, 128), dtype="float16")
