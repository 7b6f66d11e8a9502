"""Stage one: cached tokens are the backbone's own, whatever the family; resuming; refusals."""

import numpy as np
import pytest
import torch
from support.tiny import FAMILIES

from cache import CacheError, Layout, open_cache
from stages.backbones.backbone import create_backbone
from stages.backbones.settings import BackboneSettings
from stages.extract.distributed import _ShardsTask, _write_shards
from stages.extract.task import Extraction, extract_task
from stages.stimuli.preprocessing import Preprocessing
from stages.stimuli.stimuli import digest, stimuli_from_array
from stages.tokens.identity import token_settings

SIZE = (32, 64)


class Case:
    """A tiny backbone and images, ready to extract."""

    def __init__(self, family="dino", *, dtype="float16", n_images=21, seed=0):
        self.settings = BackboneSettings(weights="random", **FAMILIES[family])
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
