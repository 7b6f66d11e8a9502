"""Resize, crop, range and normalisation."""

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from cache import UserError
from stages.stimuli.preprocessing import Preprocessing, resolve_crop

PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def raw_images(n=3, shape=(66, 264), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape)).astype(np.uint8)


def ranged(grey):
    low = grey.amin(dim=(1, 2), keepdim=True)
    return (grey - low) / (grey.amax(dim=(1, 2), keepdim=True) - low)


def test_the_published_order_is_resize_then_crop():
    images = raw_images()
    got = Preprocessing(crop=(0, 132), input_size=(64, 128), **PLAIN)(images)
    whole = interpolate(torch.from_numpy(images[:, None]).float(), size=(64, 256), mode="bilinear")
    torch.testing.assert_close(got[:, 0], ranged(whole[:, 0, :, :128]))


def test_doubled_resolution_keeps_the_order():
    images = raw_images()
    got = Preprocessing(crop=(0, 132), input_size=(128, 256), **PLAIN)(images)
    whole = interpolate(torch.from_numpy(images[:, None]).float(), size=(128, 512), mode="bilinear")
    torch.testing.assert_close(got[:, 0], ranged(whole[:, 0, :, :256]))


def test_a_crop_on_broken_columns_is_resized_directly():
    images = raw_images()
    got = Preprocessing(crop=(46, 176), input_size=(64, 128), **PLAIN)(images)
    part = torch.from_numpy(images[:, None, :, 46:176].copy()).float()
    expected = interpolate(part, size=(64, 128), mode="bilinear")[:, 0]
    torch.testing.assert_close(got[:, 0], ranged(expected))


def test_three_equal_channels_are_normalised_by_the_checkpoint_s_constants():
    images = raw_images(shape=(32, 64))
    plain = Preprocessing(crop=(0, 64), input_size=(32, 64), **PLAIN)(images)
    assert plain.amin(dim=(1, 2, 3)).tolist() == [0, 0, 0]
    assert plain.amax(dim=(1, 2, 3)).tolist() == [1, 1, 1]
    assert (plain[:, 0] == plain[:, 1]).all() and (plain[:, 0] == plain[:, 2]).all()
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    got = Preprocessing(crop=(0, 64), input_size=(32, 64), mean=mean, std=std)(images)
    for channel in range(3):
        expected = (plain[:, channel] - mean[channel]) / std[channel]
        torch.testing.assert_close(got[:, channel], expected)


def test_images_of_any_dtype_and_the_batch_do_not_matter():
    images = raw_images(4)
    prepare = Preprocessing(crop=(0, 132), input_size=(64, 128), **PLAIN)
    whole = prepare(images)
    torch.testing.assert_close(prepare(images.astype(np.float64)), whole)
    torch.testing.assert_close(prepare(images[2:3]), whole[2:3])
    assert images.dtype == np.uint8


def test_crops_beyond_the_image_are_refused():
    assert resolve_crop(None, (66, 264)) == (0, 264)
    assert resolve_crop((46, 176), (66, 264)) == (46, 176)
    for crop in ((0, 265), (5, 5)):
        with pytest.raises(UserError, match="the images have 264 columns"):
            resolve_crop(crop, (66, 264))
