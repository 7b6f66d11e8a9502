"""A small model of every family of backbones, and what its own modules give."""

import torch

from stages.backbones.settings import BackboneSettings

SIZE = (64, 128)
SMALL = {"depth": 2, "embed_dim": 48, "num_heads": 3}
GEMMA = {"head_dim": 16, "intermediate_size": 96, "position_embedding_size": 64}
#: Name, arguments, the modules whose outputs its blocks are, and how these lie.
MODELS = {
    "without CLS": ("vit_base_patch16_siglip_224", SMALL, "blocks.{}", "NLC"),
    "FlexiViT": ("flexivit_small", SMALL, "blocks.{}", "NLC"),
    "NaFlexViT": ("naflexvit_base_patch16_gap", SMALL, "blocks.{}", "NLC"),
    "BEiT": ("beit_base_patch16_224", SMALL, "blocks.{}", "NLC"),
    "XCiT": ("xcit_nano_12_p8_224", SMALL, "blocks.{}", "NLC"),
    "Swin": ("swin_tiny_patch4_window7_224", {"embed_dim": 24}, "layers.{}", "NHWC"),
    "SwinV2": ("swinv2_tiny_window8_256", {"embed_dim": 24}, "layers.{}", "NHWC"),
    "Hiera": ("hiera_tiny_224", {"embed_dim": 24}, None, None),
    "MViTv2": ("mvitv2_tiny", {}, "stages.{}", "NLC"),
    "PVTv2": ("pvt_v2_b0", {}, "stages.{}", "NCHW"),
    "ConvNeXt": ("test_convnext", {}, "stages.{}", "NCHW"),
    "ResNet": ("test_resnet", {}, "layer{}", "NCHW"),
    "VGG": ("vgg11", {"mlp_ratio": 0.002}, None, None),
    "hybrid /32": ("vit_small_r26_s32_224", SMALL, "blocks.{}", "NLC"),
    "hybrid of patches": ("vit_tiny_r_s16_p8_224", {"depth": 2}, "blocks.{}", "NLC"),
    "CoAtNet": ("coatnet_pico_rw_224", {}, "stages.{}", "NCHW"),
    "MaxViT": ("maxvit_pico_rw_256", {}, "stages.{}", "NCHW"),
    "EfficientFormerV2": ("efficientformerv2_s0", {}, "stages.{}", "NCHW"),
    "FastViT": ("fastvit_t8", {}, "stages.{}", "NCHW"),
    "LeViT": ("levit_128s", {}, "stages.{}", "NLC"),
    "Gemma 4": ("gemma4_vit_167m", SMALL | GEMMA, "encoder.blocks.{}", "NLC"),
}


def settings(family, **changes):
    name, arguments, *_ = MODELS[family]
    given = {"name": name, "weights": "random", "arguments": arguments, **changes}
    return BackboneSettings(**given)


def images(n=3, size=SIZE, seed=0):
    """Smooth ones: sums of noise along rows and columns."""
    noise = torch.randn(n, 1, *size, generator=torch.Generator().manual_seed(seed))
    smooth = noise.cumsum(2).cumsum(3)
    return (smooth - smooth.mean((2, 3), True)) / smooth.std((2, 3), keepdim=True).expand(
        n, 3, *size
    )


def own_outputs(model, modules, layout, x, shape):
    """What the modules of a model give in its own pass, by name and as the blocks lie."""
    found = {}
    named = dict(model.named_modules())
    names = [modules.format(number) for number in range(shape.n_blocks + 1)]
    hooks = [
        named[name].register_forward_hook(
            lambda _, __, out, name=name: found.__setitem__(
                name, out[0] if isinstance(out, tuple) else out
            )
        )
        for name in names
        if name in named
    ]
    with torch.inference_mode():
        model.forward_features(x)
    for hook in hooks:
        hook.remove()
    # Networks with a stem have it as block 0.
    for block, out in enumerate(found.values(), start=shape.n_blocks - len(found)):
        if layout == "NCHW":
            out = out.permute(0, 2, 3, 1)
        if layout == "NLC":
            rows, columns = shape.blocks[block].grid
            out = out[:, -rows * columns :].unflatten(1, (rows, columns))
        yield block, out
