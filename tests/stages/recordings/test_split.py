"""Splits by image: no image in two tiers, whatever the order of trials."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cache import UserError
from stages.recordings import SplitSettings, split_tiers


@given(
    counts=st.lists(st.integers(1, 8), min_size=4, max_size=30),
    fraction=st.one_of(st.just("repeated"), st.floats(0.01, 0.99)),
    validation=st.floats(0.01, 0.99),
    seed=st.integers(0, 5),
)
def test_every_image_has_one_tier_and_no_tier_is_empty(counts, fraction, validation, seed):
    settings = SplitSettings(test=fraction, validation=validation, seed=seed)
    image = np.repeat(np.arange(len(counts)) * 3 + 5, counts)
    shuffled = np.random.default_rng(seed).permutation(image)
    try:
        tiers = split_tiers(shuffled, settings, "mouse")
    except UserError:
        assert sum(n >= 4 for n in counts) in (0, len(counts), len(counts) - 1)
        return
    of_image = {i: {str(t) for t in tiers[shuffled == i]} for i in np.unique(image)}
    assert all(len(found) == 1 for found in of_image.values())
    assert set(tiers) == {"train", "validation", "test"}
    test = {i for i, found in of_image.items() if found == {"test"}}
    repeated = {i for i in of_image if (image == i).sum() >= 4}
    assert test == repeated if fraction == "repeated" else test <= repeated
    # The same images in another order are split alike.
    again = split_tiers(image, settings, "mouse")
    assert of_image == {i: {str(t) for t in again[image == i]} for i in of_image}


def test_fractions_are_of_images():
    image = np.repeat(np.arange(118), 50)
    tiers = split_tiers(image, SplitSettings(test=0.25, validation=0.1), "mouse")
    images = {tier: len(np.unique(image[tiers == tier])) for tier in np.unique(tiers)}
    assert images == {"test": 30, "validation": 9, "train": 79}
    other = split_tiers(image, SplitSettings(test=0.25, validation=0.1, seed=1), "mouse")
    assert (tiers != other).any()


def test_what_cannot_be_split_is_refused_with_the_remedy():
    with pytest.raises(UserError, match=r"mouse: 6 of 6 images are for test, .* a fraction"):
        split_tiers(np.repeat(np.arange(6), 4), SplitSettings(), "mouse")
    message = r"mouse: none of 6 images was shown 4 times or more \(the most is 3\).*min_repeats"
    with pytest.raises(UserError, match=message):
        split_tiers(np.repeat(np.arange(6), 3), SplitSettings(), "mouse")


@pytest.mark.parametrize(
    "wrong", [{"test": 0}, {"test": 1.0}, {"test": "some"}, {"min_repeats": 1}, {"validation": 0}]
)
def test_settings_that_split_nothing_are_refused(wrong):
    with pytest.raises(ValidationError):
        SplitSettings(**wrong)
