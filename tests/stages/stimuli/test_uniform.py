"""Uniform images: mid-grey on every machine, and no other image is touched."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import interpolate

from stages.stimuli import preprocessing
from stages.stimuli.preprocessing import Preprocessing
from stages.stimuli.stimuli import digest, stimuli_from_array
from stages.stimuli.uniform import uniform

ROOT = Path(__file__).parents[3]
PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}

#: Raw shape, crop and size of the network's images: whole, by parts, larger, on broken columns.
VIEWS = [
    ((66, 264), (0, 132), (64, 128)),
    ((66, 264), (0, 264), (32, 64)),
    ((144, 256), (0, 256), (32, 64)),
    ((100, 100), (0, 100), (33, 77)),
    ((66, 264), (46, 176), (64, 128)),
    ((36, 64), (0, 64), (128, 256)),
    ((32, 64), (0, 64), (32, 64)),
]


def prepared(images, crop, size):
    return Preprocessing(crop=crop, input_size=size, **PLAIN)(images)


def resized(images, crop, size, dtype=np.float32):
    """Resize and crop of the published preprocessing."""
    grey, columns = torch.from_numpy(images.astype(dtype))[:, None], crop[1] - crop[0]
    width, offset = size[1] * images.shape[2] / columns, size[1] * crop[0] / columns
    if width.is_integer() and offset.is_integer():
        grey = interpolate(grey, size=(size[0], int(width)), mode="bilinear")
        grey = grey[..., int(offset) : int(offset) + size[1]]
    else:
        grey = interpolate(grey[..., crop[0] : crop[1]], size=size, mode="bilinear")
    return grey


def stretched(images, crop, size):
    """Its min-max, which knows no uniform images."""
    grey = resized(images, crop, size)
    low, high = (f(grey, dim=(1, 2, 3), keepdim=True) for f in (torch.amin, torch.amax))
    return ((grey - low) / (high - low)).expand(-1, 3, -1, -1)


def levels(shape, dtype=np.uint8):
    """One image of each of 256 grey levels."""
    return np.ones((1, *shape), dtype) * np.arange(256, dtype=dtype)[:, None, None]


@pytest.mark.parametrize("capability", ["default", "avx2", "avx512"])
def test_every_grey_level_is_mid_grey_on_every_cpu(capability):
    code = (
        "import test_uniform as t\n"
        "for shape, crop, size in t.VIEWS:\n"
        "    shares = t.levels(shape, 'float32')[::8] / t.np.float32(255)\n"
        "    for images in (t.levels(shape), shares):\n"
        "        assert (t.prepared(images, crop, size) == 0.5).all(), (shape, crop, size)"
    )
    paths = [str(ROOT), str(Path(__file__).parent)]
    environment = {
        **os.environ, "ATEN_CPU_CAPABILITY": capability, "PYTHONPATH": os.pathsep.join(paths)
    }  # fmt: skip
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_mid_grey_comes_before_mean_and_std():
    images = np.full((1, 8, 8), 7, np.uint8)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    got = Preprocessing(crop=(0, 8), input_size=(8, 8), mean=mean, std=std)(images)
    for channel in range(3):
        expected = torch.full((1, 8, 8), (0.5 - mean[channel]) / std[channel])
        torch.testing.assert_close(got[:, channel], expected)


def test_rounding_of_another_machine_changes_nothing(monkeypatch):
    """A resize that is off by 4 units of float32, as no known one is."""
    whole = preprocessing.resize

    def rough(images, size):
        resized = whole(images, size)
        units = torch.randint(-4, 5, resized.shape, generator=torch.Generator().manual_seed(0))
        return resized * (1 + units * torch.finfo(torch.float32).eps)

    monkeypatch.setattr(preprocessing, "resize", rough)
    assert (prepared(levels((36, 64)), (0, 64), (32, 64)) == 0.5).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 255.0])
def test_images_are_uniform_up_to_the_rounding_of_their_dtype(dtype, scale):
    rng = np.random.default_rng(0)
    base = np.full((20, 36, 64), 0.7 * scale, dtype=dtype)
    near = np.nextafter(base, rng.choice([-np.inf, np.inf], base.shape).astype(dtype))
    assert (
        prepared(np.where(rng.random(base.shape) < 0.5, near, base), (0, 64), (32, 64)) == 0.5
    ).all()
    # Ten times what a dtype rounds to is a picture.
    seen = base * (1 + max(20 * np.finfo(dtype).eps, 1e-4) * rng.random(base.shape)).astype(dtype)
    assert not uniform(seen, crop=(0, 64), size=(32, 64)).any()


def test_what_the_resize_skips_or_the_crop_cuts_off_does_not_count():
    images = np.full((2, 64, 128), 90, np.uint8)
    images[0, ::4] = images[0, 3::4] = 7
    images[1, :, 64:] = 255
    assert (prepared(images, (0, 64), (16, 16)) == 0.5).all()


pictures = st.builds(
    lambda seed, dtype, low, span: (
        low + np.random.default_rng(seed).integers(0, span + 1, (3, 36, 64))
    ).astype(dtype),
    st.integers(0, 2**32),
    st.sampled_from([np.uint8, np.uint16, np.float32, np.float64]),
    st.integers(0, 200),
    st.integers(1, 50),
)


@given(
    pictures, st.sampled_from([(32, 64), (17, 23), (64, 128)]), st.sampled_from([(0, 64), (3, 50)])
)
def test_any_other_image_is_as_it_was_to_the_bit(images, size, crop):
    assert torch.equal(prepared(images, crop, size), stretched(images, crop, size))


def test_one_grey_level_in_half_of_an_image_is_a_picture():
    images = np.full((1, 36, 64), 200, np.uint8)
    images[:, :, 32:] += 1
    assert torch.equal(prepared(images, (0, 64), (32, 64)), stretched(images, (0, 64), (32, 64)))


@pytest.mark.parametrize(("shape", "crop", "size"), VIEWS)
def test_it_sees_what_the_resize_sees(shape, crop, size):
    """A single pixel that differs makes a picture where torch's own resize shows it."""
    rng = np.random.default_rng(0)
    images = np.full((200, *shape), 100, np.uint8)
    images[np.arange(200), rng.integers(0, shape[0], 200), rng.integers(0, shape[1], 200)] = 160
    shown = (resized(images, crop, size, np.float64) - 100 > 0.1).any(dim=(1, 2, 3))
    assert (uniform(images, crop=crop, size=size) == ~shown.numpy()).all()


def test_images_tell_whether_they_hold_a_uniform_one():
    images = np.random.default_rng(0).integers(0, 255, (300, 36, 64)).astype(np.uint8)
    view = {"crop": (0, 32), "size": (32, 32)}
    assert not digest(stimuli_from_array(images, source="here")).holds_uniform(**view)
    images[299, :, :32] = 3
    found = digest(stimuli_from_array(images, source="here"))
    assert found.holds_uniform(**view) and not found.holds_uniform(**{**view, "crop": (0, 64)})
