"""A cache is of one set of tokens: any other setting is another key, told in words."""

import dataclasses
import json

import pytest
from support.other_settings import (
    BACKBONE,
    IMAGES,
    backbone,
    fill,
    opened,
    pixel,
    refusals,
    the_settings,
    weights,
)

from cache import CacheError, canonical_json, differences, key_of, open_cache
from stages.stimuli.settings import StimuliSettings
from stages.stimuli.stimuli import digest, stimuli_from_array
from stages.tokens.identity import check_cache


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return fill(tmp_path_factory.mktemp("identity") / "c.zarr")


def test_any_other_setting_is_refused_by_name(tmp_path):
    counts = refusals(tmp_path)
    print(dict(counts))
    assert counts["refusals"] == counts["mutations"] >= 50 and counts["stores touched"] == 0


def test_the_same_settings_are_accepted(store):
    with opened(store, the_settings()) as writer:
        assert writer.cache.complete
    assert open_cache(store).key == key_of(the_settings())


def declared(**changed):
    return {
        "backbone": BACKBONE,
        "stimuli": StimuliSettings(input_size=(32, 64)),
        "crop": (0, 12),
        "dtype": "float16",
        "images": digest(stimuli_from_array(IMAGES, source="images")),
        **changed,
    }


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (pixel(3, 3, 3), "images differ: 1 of 20 changed"),
        ({"crop": (0, 6)}, r"preprocessing.crop: \[0, 6\] here, \[0, 12\] there"),
        ({"stimuli": StimuliSettings(input_size=(32, 64), upsample=2)}, r"input_size: \[64, 128\]"),
        (backbone(precision="bfloat16"), "backbone.precision"),
        ({"dtype": "float32"}, "dtype"),
    ],
)
def test_stage_two_compares_what_it_can(store, changed, message):
    file = {"backbone": dataclasses.replace(BACKBONE, weights="hub")}
    with pytest.raises(CacheError, match=message):
        check_cache(open_cache(store), **{**declared(**file), **changed})


def test_what_could_not_be_compared_is_said(store):
    hub = {"backbone": dataclasses.replace(BACKBONE, weights="hub")}
    cache = open_cache(store)
    assert check_cache(cache, **declared(**hub)).unchecked == ("weights",)
    unknown = check_cache(cache, **declared(**hub, images=None, crop=None)).unchecked
    assert unknown == ("images", "weights", "crop")


def test_differences_tell_images_and_weights_in_words():
    images = IMAGES.copy()
    images[[2, 5, 6]] ^= 7
    changed = the_settings(
        images=digest(stimuli_from_array(images, source="images")), **weights(sha256="cd" * 32)
    )
    assert differences(changed, the_settings()) == [
        "weights: sha256 cdcdcdcdcdcd.. here, abababababab.. there",
        "images differ: 3 of 20 changed",
    ]
    assert differences(the_settings(), the_settings()) == []


def test_differences_without_a_checksum_per_image():
    ours, theirs = the_settings(**pixel(0, 0, 0)), the_settings()
    del theirs["images"]["crc32"]
    (told,) = differences(ours, theirs)
    assert told.startswith("images differ: sha256 ") and " here, " in told


def test_checksums_per_image_describe_but_do_not_decide():
    without = the_settings()
    without["images"] = {**without["images"], "crc32": ""}
    assert key_of(without) == key_of(the_settings())


def test_canonical_json_has_one_form():
    assert canonical_json({"b": [1, 2.5], "a": "é"}) == '{"a":"\\u00e9","b":[1,2.5]}'
    assert canonical_json(json.loads(canonical_json({"x": 0.1}))) == '{"x":0.1}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"x": float("nan")})


def test_nesting_is_not_ambiguous():
    assert key_of({"a": {"b": 1}}) != key_of({"a": {"c": 1}})


def test_only_images_that_hold_a_uniform_one_have_another_key(tmp_path):
    """Uniform images became others; caches without any keep their keys."""
    assert "uniform" not in the_settings()["preprocessing"]
    images = IMAGES.copy()
    images[7] = 30
    now = digest(stimuli_from_array(images, source="images"))
    before = the_settings(images=now)
    assert before["preprocessing"].pop("uniform") == "mid-grey"
    store, hub = fill(tmp_path / "c.zarr", before), dataclasses.replace(BACKBONE, weights="hub")
    with pytest.raises(CacheError, match=r'preprocessing\.uniform: "mid-grey" here, nothing there'):
        check_cache(open_cache(store), **declared(images=now, backbone=hub))
    with (
        pytest.raises(CacheError, match=r"preprocessing\.uniform"),
        opened(store, the_settings(images=now)),
    ):
        pass
    again = fill(tmp_path / "d.zarr", the_settings(images=now))
    check_cache(open_cache(again), **declared(images=now, backbone=hub))
