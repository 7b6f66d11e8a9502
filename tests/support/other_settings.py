"""Settings of a cache, changed one at a time, each with what a refusal says of it."""

import dataclasses
import re
from collections import Counter

import numpy as np

from cache import CacheError, Layout, TokenShape, write_cache
from stages.backbones.settings import BackboneSettings
from stages.backbones.weights import WeightsIdentity
from stages.stimuli.preprocessing import Preprocessing
from stages.stimuli.stimuli import Stimuli, digest, stimuli_from_array
from stages.tokens.identity import token_settings
from support.faults import content

IMAGES = np.random.default_rng(0).integers(0, 255, (20, 6, 12), dtype=np.uint8)
BACKBONE = BackboneSettings(weights="random", arguments={"depth": 4, "num_heads": 3})
FILE = WeightsIdentity(source="file", identity={"kind": "file", "sha256": "ab" * 32})
PREPROCESSING = Preprocessing(crop=(0, 12), input_size=(32, 64), mean=(0.5,) * 3, std=(0.2,) * 3)
SHAPE = TokenShape(n_blocks=4, grid=(1, 1), n_channels=2, n_registers=0, dtype="float16")


def the_settings(**changed):
    """An experiment's settings, with some of them changed."""
    return token_settings(
        changed.pop("backbone", BACKBONE),
        **{
            "n_blocks": 4,
            "weights": FILE,
            "preprocessing": PREPROCESSING,
            "images": digest(stimuli_from_array(IMAGES, source="images")),
            "dtype": "float16",
            **changed,
        },
    )


def backbone(**changed):
    return {"backbone": dataclasses.replace(BACKBONE, **changed)}


def preprocessing(**changed):
    return {"preprocessing": dataclasses.replace(PREPROCESSING, **changed)}


def weights(**identity):
    return {"weights": WeightsIdentity(source="file", identity={**FILE.identity, **identity})}


def pixel(image, row, column):
    images = IMAGES.copy()
    images[image, row, column] ^= 1
    return {"images": digest(stimuli_from_array(images, source="images"))}


def stimuli(ids, images=IMAGES):
    return Stimuli(
        ids=np.array(ids, dtype=np.int64),
        image_shape=images.shape[1:],
        dtype=images.dtype,
        reader=lambda wanted: images[: len(wanted)],
        source="images",
    )


def image_id(position):
    ids = np.arange(20) * 10
    ids[position] += 1
    return {"images": digest(stimuli(ids))}


MUTATIONS = {
    **{f"pixel {at}": (pixel(*at), r"images differ: 1 of 20 changed")
       for at in [(0, 0, 0), (0, 5, 11), (7, 3, 3), (12, 0, 11), (19, 5, 11), (19, 0, 0)]},
    **{f"id {at}": (image_id(at), r"images differ: the same 20 pictures under other ids")
       for at in (0, 1, 9, 18, 19)},
    **{f"first {n} images": ({"images": digest(stimuli(range(n)))}, rf"images differ: {n} here, 20")
       for n in (1, 10, 19)},
    "images in another order": (
        {"images": digest(stimuli_from_array(IMAGES[::-1], source="images"))}, "20 of 20 changed"),
    "images of another dtype": (
        {"images": digest(stimuli_from_array(IMAGES.astype(np.float32), source="i"))}, "images d"),
    "images of another shape": (
        {"images": digest(stimuli_from_array(IMAGES.reshape(20, 12, 6), source="i"))}, "dtype"),
    **{f"weights {n}": (weights(sha256=f"{n:064x}"), r"weights: sha256 \w{12}\.\. here, ab.* there")
       for n in (0, 1, 2**255)},
    "random weights": ({"weights": WeightsIdentity(
        source="random", identity={"kind": "random", "seed": 0, "gain": 1.0})}, "weights.kind"),
    **{f"random weights of seed {n}": ({"weights": WeightsIdentity(
        source="random", identity={"kind": "random", "seed": n, "gain": 2.0})}, "weights.seed")
       for n in (1, 2)},
    **{f"name {name}": (backbone(name=name), "backbone.name")
       for name in ("vit_base_patch16_dinov3.lvd1689m", "vit_small_patch16_dinov3", "dino")},
    **{f"patch {n}": (backbone(patch_size=n), f"backbone.patch_size: {n} here, nothing there")
       for n in (8, 14, 16)},
    "precision": (backbone(precision="bfloat16"), 'precision: "bfloat16" here, "float32" there'),
    **{f"arguments {value}": (backbone(arguments=value), "backbone.arguments")
       for value in ({}, {"depth": 4}, {"depth": 5, "num_heads": 3}, {"depth": 4, "num_heads": 6},
                     {"depth": 4, "num_heads": 3, "qkv_bias": False},
                     {"depth": 4.0, "num_heads": 3})},
    **{f"blocks {n}": ({"n_blocks": n}, f"backbone.n_blocks: {n} here, 4 there") for n in (3, 12)},
    **{f"crop {crop}": (preprocessing(crop=crop), r"preprocessing.crop: \[.*\] here, \[0, 12\]")
       for crop in [(0, 11), (1, 12), (0, 6), (6, 12)]},
    **{f"size {size}": (preprocessing(input_size=size), "preprocessing.input_size")
       for size in [(64, 32), (32, 32), (64, 128), (31, 64)]},
    **{f"mean {n}": (preprocessing(mean=(0.5, 0.5, n)), "preprocessing.mean")
       for n in (0.50001, 0.0)},
    "std": (preprocessing(std=(0.2, 0.2, 0.2000001)), "preprocessing.std"),
    "dtype": ({"dtype": "float32"}, 'dtype: "float32" here, "float16" there'),
}  # fmt: skip


def fill(path, declared=None):
    """A finished store of the settings that are declared, `the_settings` by default."""
    with opened(path, declared or the_settings()) as writer:
        for shard in writer.missing_shards():
            n = len(writer.shard_ids(shard))
            tokens = {"patches": np.ones((n, 1, 1, 2)), "cls": np.ones((n, 2))}
            writer.write_shard(shard, [dict(tokens) for _ in range(4)])
        writer.finish()
    return path


def refusals(folder):
    """Open one store with each of the other settings; count refusals that name the setting."""
    store = fill(folder / "c.zarr")
    before = content(store)
    counts = Counter({"mutations": 0, "refusals": 0, "stores touched": 0})
    for changed, message in MUTATIONS.values():
        counts["mutations"] += 1
        try:
            with opened(store, the_settings(**changed)):
                pass
        except CacheError as error:
            counts["refusals"] += bool(re.search(f"holds other tokens .*{message}", str(error)))
        counts["stores touched"] += content(store) != before
    return counts


def opened(path, declared):
    return write_cache(
        path,
        settings=declared,
        provenance={},
        image_ids=np.arange(20),
        shape=SHAPE,
        layout=Layout(images_per_shard=16, images_per_chunk={"patches": 4, "cls": 16}),
    )
