"""Caches are found by what they hold, under the name that they got when they were made."""

import shutil
from pathlib import Path

import pytest
from support.noise_runs import write_noise_experiment

from cache import open_cache
from pipeline.experiment import load_experiment
from pipeline.variant.together import open_variants

NAME = "vit_small_patch16_dinov3"
LIST = f'backbone.name=["{NAME}", "vit_base_patch16_dinov3"]'


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    return write_noise_experiment(tmp_path_factory.mktemp("noise"))


def caches(experiment, *overrides):
    return [v.cache for v in open_variants(load_experiment(experiment, overrides))]


def test_a_name_turned_into_a_list_finds_the_cache(experiment):
    (alone,) = caches(experiment)
    found, other = caches(experiment, LIST)
    assert found.path == alone.path and found.serves
    # That of the other backbone gets its own place.
    assert Path(other.path).name == "features-vit_base_patch16_dinov3-32x64.zarr"
    assert other.opened is None


def test_a_list_turned_into_a_name_finds_it_too(experiment, tmp_path):
    (alone,) = caches(experiment)
    folder = tmp_path / "caches"
    shutil.copytree(alone.path, folder / f"features-{NAME}-32x64.zarr")
    (found,) = caches(experiment, f"cache.path={folder}")
    assert Path(found.path).resolve() == folder / f"features-{NAME}-32x64.zarr" and found.serves


def test_nothing_is_put_into_a_cache_that_is_named(experiment, tmp_path):
    (alone,) = caches(experiment)
    shared = tmp_path / "shared.zarr"
    shutil.copytree(alone.path, shared)
    found, other = caches(experiment, LIST, f"cache.path={shared}")
    assert Path(found.path).resolve() == shared
    assert Path(other.path).resolve() == tmp_path / "shared-vit_base_patch16_dinov3-32x64.zarr"


def test_a_cache_of_another_backbone_is_not_taken(experiment, tmp_path):
    """Nor one of other weights under the same name."""
    one, other = caches(experiment, LIST, "backbone.weights=random", "backbone.seed=4")
    assert Path(one.path).name == f"features-{NAME}-32x64.zarr"
    assert one.opened is None and other.opened is None


def test_what_it_is_is_told(experiment):
    (alone,) = caches(experiment)
    cache = open_cache(alone.path)
    assert repr(cache) == (
        f"<FeatureCache {alone.path}: {NAME}, 12 of 12 blocks, 93 images, complete, "
        f"key {cache.key[:12]}..>"
    )
    shown = cache._repr_html_()
    assert "<td>patches 2 x 4 x 96 float16, cls 96 float16, registers 4 x 96 float16</td>" in shown
