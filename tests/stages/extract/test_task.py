"""Stage one: cached tokens are the backbone's own, whatever the family; resuming; refusals."""

import dataclasses

import numpy as np
import pytest
import torch
from support.tiny import FAMILIES

from cache import CacheError, Layout, Places, key_of, open_cache
from stages.backbones.backbone import create_backbone
from stages.backbones.settings import BackboneSettings
from stages.extract.distributed import _ShardsTask, _write_shards
from stages.extract.task import Extraction, extract_task
from stages.stimuli.preprocessing import Preprocessing
from stages.stimuli.settings import StimuliSettings
from stages.stimuli.stimuli import digest, stimuli_from_array
from stages.tokens.identity import check_cache, token_settings

SIZE = (32, 64)


class Case:
    """A tiny backbone and images, ready to extract."""

    def __init__(self, family="dino", *, dtype="float16", n_images=21, seed=0, **backbone):
        self.settings = BackboneSettings(weights="random", **FAMILIES[family], **backbone)
        self.backbone = create_backbone(self.settings, input_size=SIZE)
        images = np.random.default_rng(seed).integers(0, 256, (n_images, 36, 64)).astype(np.uint8)
        self.stimuli = stimuli_from_array(images, source="test images")
        self.preprocessing = Preprocessing(
            crop=(0, 64), input_size=SIZE, mean=self.backbone.mean, std=self.backbone.std
        )
        self.dtype = dtype

    def token_settings(self):
        return token_settings(
            self.settings,
            n_blocks=self.backbone.n_blocks,
            weights=self.backbone.weights,
            preprocessing=self.preprocessing,
            images=digest(self.stimuli),
            dtype=self.dtype,
        )

    def extract(self, path, *, images_per_shard=8, **options):
        kinds = self.backbone.token_shape(self.dtype).kinds()
        task = Extraction(
            path=path,
            stimuli=self.stimuli,
            backbone=self.backbone,
            preprocessing=self.preprocessing,
            declared=self.settings,
            settings=self.token_settings(),
            provenance={"weights": "random"},
            dtype=self.dtype,
        )
        return extract_task(
            task,
            layout=Layout(
                images_per_shard=images_per_shard,
                images_per_chunk=dict.fromkeys(kinds, images_per_shard // 2),
            ),
            **options,
        )

    def direct(self):
        """Tokens straight from `forward_intermediates`, all images in one batch."""
        batch = self.preprocessing(self.stimuli.read(self.stimuli.ids))
        with torch.inference_mode():
            return self.backbone.model.forward_intermediates(
                batch, return_prefix_tokens=True, norm=False, output_fmt="NLC",
                intermediates_only=True,
            )  # fmt: skip


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 1e-3), ("float32", 1e-5)])
@pytest.mark.parametrize("family", FAMILIES)
def test_cached_tokens_are_the_direct_ones(family, dtype, tolerance, tmp_path):
    case = Case(family, dtype=dtype)
    assert case.extract(tmp_path / "c.zarr") == 21
    cache = open_cache(tmp_path / "c.zarr")
    assert cache.complete and cache.kinds == list(case.backbone.token_shape(dtype).kinds())
    for block, (patches, prefix) in enumerate(case.direct()):
        scale = patches.abs().max().item()
        expected = {"patches": patches.unflatten(1, (2, 4)), "cls": prefix[:, 0]}
        if prefix.shape[1] > 1:
            expected["registers"] = prefix[:, 1:]
        for kind, values in expected.items():
            got = cache.block(block).read(kind, cache.image_ids)
            assert got.dtype == np.dtype(dtype)
            np.testing.assert_allclose(got, values.numpy(), rtol=tolerance, atol=tolerance * scale)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 1e-3), ("float32", 1e-5)])
@pytest.mark.parametrize(
    "more", [{"stride": 8}, {"stride": 8, "dense": "overlap", "pad": "reflect"}]
)
def test_cached_tokens_of_a_stride_are_the_backbone_s_own(more, dtype, tolerance, tmp_path):
    case = Case("dinov3", dtype=dtype, **more)
    case.extract(tmp_path / "c.zarr")
    cache = open_cache(tmp_path / "c.zarr")
    passes = 1 if "dense" in more else 4
    assert cache.places == Places(stride=(8, 8), first_centre=(8, 8), passes=passes)
    expected = case.backbone.tokens(case.preprocessing(case.stimuli.read(case.stimuli.ids)))
    for block, kinds in enumerate(expected):
        for kind, values in kinds.items():
            got, scale = cache.block(block).read(kind, cache.image_ids), float(values.abs().max())
            np.testing.assert_allclose(got, values.numpy(), rtol=tolerance, atol=tolerance * scale)
    assert cache.block(0).patches.shape == (21, 4, 8, 48)


def test_an_image_is_read_once_for_all_its_passes(tmp_path):
    case, read = Case(stride=8), []
    case.stimuli = dataclasses.replace(
        case.stimuli, reader=lambda ids, inner=case.stimuli.reader: read.extend(ids) or inner(ids)
    )
    settings = case.token_settings()
    case.token_settings = lambda: settings
    read.clear()
    case.extract(tmp_path / "c.zarr")
    assert sorted(read) == list(range(21))


def test_stride_dense_and_pad_are_of_the_identity_only_where_they_are_set():
    keys = {
        key_of(Case(**more).token_settings())
        for more in ({}, {"stride": 8}, {"stride": 8, "dense": "overlap"}, {"stride": 4},
                     {"stride": 8, "dense": "overlap", "pad": "reflect"})
    }  # fmt: skip
    assert len(keys) == 5
    assert not {"stride", "dense", "pad"} & Case().token_settings()["backbone"].keys()
    one, same = Case(stride=8), Case(stride=8, dense="shift")
    assert key_of(one.token_settings()) == key_of(same.token_settings())


def test_an_experiment_without_stride_does_not_take_a_cache_that_has_one(tmp_path):
    case = Case(stride=8)
    case.extract(tmp_path / "c.zarr")
    cache = open_cache(tmp_path / "c.zarr")
    known = {"stimuli": StimuliSettings(input_size=SIZE), "crop": None, "images": None}
    check_cache(cache, backbone=case.settings, dtype="float16", **known)
    with pytest.raises(CacheError, match=r"backbone\.stride: nothing here, 8 there"):
        check_cache(cache, backbone=Case().settings, dtype="float16", **known)


def test_blocks_differ():
    tokens = [patches for patches, _ in Case().direct()]
    assert not torch.allclose(tokens[0], tokens[1], rtol=0.1)


def test_a_second_run_computes_nothing_and_changes_no_file(tmp_path):
    case = Case()
    case.extract(tmp_path / "c.zarr")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "c.zarr").rglob("*") if p.is_file()}
    assert case.extract(tmp_path / "c.zarr") == 0
    after = {p: p.stat().st_mtime_ns for p in (tmp_path / "c.zarr").rglob("*") if p.is_file()}
    assert after == before


def test_an_interrupted_run_goes_on_with_whole_shards(tmp_path, monkeypatch):
    case = Case()
    case.extract(tmp_path / "whole.zarr")
    calls = iter(range(100))
    tokens = type(case.backbone).one_pass

    def interrupted(self, images):
        if next(calls) == 2:
            raise KeyboardInterrupt
        return tokens(self, images)

    with monkeypatch.context() as patch:
        patch.setattr(type(case.backbone), "one_pass", interrupted)
        with pytest.raises(KeyboardInterrupt):
            case.extract(tmp_path / "c.zarr")
    partial = open_cache(tmp_path / "c.zarr")
    assert not partial.complete
    left = 21 - 8 * int(partial.shards_done.sum())
    seen = []
    assert case.extract(tmp_path / "c.zarr", progress=seen.append) == left < 21
    assert sum(seen) == 21
    one, other = open_cache(tmp_path / "c.zarr"), open_cache(tmp_path / "whole.zarr")
    for block in range(3):
        for kind in one.kinds:
            np.testing.assert_array_equal(
                one.block(block).read(kind, one.image_ids),
                other.block(block).read(kind, one.image_ids),
            )


def test_an_overflow_names_image_and_block_and_leaves_nothing_claimed(tmp_path):
    case = Case()
    with torch.no_grad():
        case.backbone.model.blocks[1].mlp.fc2.bias.fill_(1e5)
    with pytest.raises(CacheError, match=r'image 0, block 1: .*1e\+05.*dtype = "float32"'):
        case.extract(tmp_path / "c.zarr")
    assert not open_cache(tmp_path / "c.zarr").shards_done.any()
    case.dtype = "float32"
    case.extract(tmp_path / "wide.zarr")
    assert open_cache(tmp_path / "wide.zarr").complete


def test_other_images_are_refused_and_replaced_only_by_name(tmp_path):
    Case().extract(tmp_path / "c.zarr")
    key = open_cache(tmp_path / "c.zarr").key
    other = Case(seed=1)
    with pytest.raises(CacheError, match=r"images differ: .*name another \[cache\] path$"):
        other.extract(tmp_path / "c.zarr")
    assert open_cache(tmp_path / "c.zarr").key == key
    other.extract(tmp_path / "c.zarr", replace=True)
    replaced = open_cache(tmp_path / "c.zarr")
    assert replaced.complete and replaced.key != key


def test_something_else_at_the_path_is_never_deleted(tmp_path):
    (tmp_path / "c.zarr").mkdir()
    (tmp_path / "c.zarr" / "thesis.txt").write_text("years of work")
    for replace in (False, True):
        with pytest.raises(CacheError, match="nothing was overwritten"):
            Case().extract(tmp_path / "c.zarr", replace=replace)
    assert (tmp_path / "c.zarr" / "thesis.txt").exists()


def test_workers_write_to_no_other_store(tmp_path):
    case = Case()
    case.extract(tmp_path / "c.zarr")
    shards = _ShardsTask(
        path=tmp_path / "c.zarr",
        key="0" * 64,
        shards=(0,),
        stimuli=case.stimuli,
        backbone=case.settings,
        weights=case.backbone.weights.identity,
        preprocessing=case.preprocessing,
        device="cpu",
    )
    with pytest.raises(CacheError, match="holds other tokens than before"):
        _write_shards(shards)
