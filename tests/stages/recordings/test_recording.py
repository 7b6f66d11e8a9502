"""Recordings in memory: choice of neurons, refusals, and normalisation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cache import UserError
from stages.recordings.derived import digest_recording, normalise
from stages.recordings.recording import Recording, check_recording
from stages.recordings.recording_format import RecordingSizes


def make(**changes: Any) -> Recording:
    """Six trials, four neurons, two test images with three and two repeats."""
    rng = np.random.default_rng(0)
    test = rng.uniform(0.5, 2, (2, 3, 4)).astype(np.float32)
    test[1, 2] = np.nan
    recording = Recording(
        name="m",
        neurons=np.arange(4),
        image_ids=np.array([5, 3, 9, 3, 7, 1]),
        responses=rng.uniform(0.5, 2, (6, 4)).astype(np.float32),
        validation=np.array([True, False, False, False, True, False]),
        test_image_ids=np.array([2, 9]),
        test_responses=test,
        unit_ids=np.array([11, 12, 13, 14]),
        x=np.array([0.0, 1.0, 2.0, 3.0]),
        y=np.array([4.0, 5.0, 6.0, 7.0]),
    )
    return replace(recording, **changes)


def with_value(array: NDArray[np.float32], place: Any, value: float) -> NDArray[np.float32]:
    changed = array.copy()
    changed[place] = value
    return changed


# check_recording


def test_a_sound_recording_is_handed_back_as_it_is() -> None:
    recording = make()
    assert check_recording(recording) is recording


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"responses": np.ones((5, 4), np.float32)}, r"\(5, 4\), but there are 6 trials and 4"),
        ({"responses": np.ones((6, 3), np.float32)}, r"\(6, 3\), but there are 6 trials and 4"),
        ({"test_responses": np.ones((2, 4), np.float32)}, r"\(2, 4\): expected \(image, repeat"),
        ({"test_responses": np.ones((3, 3, 4), np.float32)}, r"\(3, 3, 4\), expected \(2 images"),
        ({"test_responses": np.ones((2, 3, 5), np.float32)}, r"\(2, 3, 5\), expected .* 4 neurons"),
        ({"validation": np.array([True, False])}, r"validation has shape \(2,\), .* 6 trials"),
        ({"validation": np.zeros(6, bool)}, "6 training and 0 validation trials"),
        ({"validation": np.ones(6, bool)}, "0 training and 6 validation trials"),
        ({"unit_ids": np.arange(3)}, r"unit_ids has shape \(3,\), but there are 4 neurons"),
        ({"x": np.ones((4, 1))}, r"values of x have shape \(4, 1\): expected \(neuron\)"),
        ({"y": np.ones(5)}, r"y has shape \(5,\), but there are 4 neurons"),
        (
            {"test_responses": np.ones((2, 1, 4), np.float32)},
            r"no test image was shown twice \(2 test images\)",
        ),
        (
            {"test_image_ids": np.arange(0), "test_responses": np.ones((0, 0, 4), np.float32)},
            r"no test image was shown twice \(0 test images\)",
        ),
    ],
)
def test_parts_that_disagree_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"recording m: .*{message}"):
        check_recording(make(**changes))


def test_a_recording_without_neurons_is_refused() -> None:
    empty = make(
        neurons=np.arange(0),
        responses=np.ones((6, 0), np.float32),
        test_responses=np.ones((2, 3, 0), np.float32),
        unit_ids=None,
        x=None,
        y=None,
    )
    with pytest.raises(UserError, match="no neurons"):
        check_recording(empty)


def test_infinite_responses_are_counted_and_named() -> None:
    single = with_value(make().responses, (1, slice(2, 4)), np.inf)
    with pytest.raises(UserError, match=r"2 of 4 neurons have infinite single-trial .*\(2, 3\)"):
        check_recording(make(responses=single))
    part = make(responses=single).select_neurons(1, 3)
    with pytest.raises(UserError, match=r"1 of 2 neurons .*\(2\)"):
        check_recording(part)  # by its number in the file
    test = with_value(make().test_responses, (0, 1, 3), -np.inf)
    with pytest.raises(UserError, match=r"1 of 4 neurons have infinite test responses \(3\)"):
        check_recording(make(test_responses=test))
    n = 7
    recording = make(
        neurons=np.arange(n),
        responses=np.full((6, n), np.inf, np.float32),
        test_responses=np.ones((2, 3, n), np.float32),
        unit_ids=None,
        x=None,
        y=None,
    )
    with pytest.raises(UserError, match=r"7 of 7 neurons .*\(0, 1, 2, 3, 4, \.\.\.\)"):
        check_recording(recording)


def test_missing_responses_are_kept_and_told() -> None:
    assert not make().incomplete
    single = with_value(make().responses, (slice(None), 1), np.nan)
    single[2, 3] = np.nan
    recording = make(responses=np.ma.masked_invalid(single))
    checked = check_recording(recording)
    np.testing.assert_array_equal(checked.responses, single)
    assert checked.incomplete
    spread, whole = checked.spread, make().spread
    assert np.isnan(spread.mean[1]) and np.isnan(spread.deviation[1])
    np.testing.assert_array_equal(spread.mean[[0, 2]], whole.mean[[0, 2]])
    own = single[[1, 3, 5], 3].astype(np.float64)  # training trials are 1, 2, 3 and 5
    np.testing.assert_allclose([spread.mean[3], spread.deviation[3]], [own.mean(), own.std()])


@pytest.mark.parametrize(("tier", "trials"), [("training", [1, 2, 3, 5]), ("validation", [0, 4])])
def test_a_tier_without_any_response_is_refused(tier: str, trials: list[int]) -> None:
    with pytest.raises(UserError, match=f"all responses of the {tier} trials are missing"):
        check_recording(make(responses=with_value(make().responses, trials, np.nan)))


def test_negative_responses_are_kept_and_refused_where_rates_are_fitted() -> None:
    single = with_value(make().responses, (1, 2), -1.0)
    recording = check_recording(make(responses=single)).select_neurons(1, 4)
    np.testing.assert_array_equal(recording.responses, single[:, 1:])
    np.testing.assert_array_equal(recording.negative, [2])
    sizes = RecordingSizes(recording="m", neurons=3, trials=6, test_images=2)
    sizes.require_rates()
    with pytest.raises(UserError, match=r'm: 1 of 3 neurons .*\(2\).*output = "linear"'):
        replace(sizes, negative=recording.negative).require_rates()


def test_zeros_rounded_below_zero_become_zero() -> None:
    single = with_value(make().responses, (1, 2), -1e-8)
    test = with_value(make().test_responses, (0, 1, 3), -1e-8)
    given = make(responses=single, test_responses=test)
    checked = check_recording(given)
    assert checked.responses[1, 2] == 0 and checked.test_responses[0, 1, 3] == 0
    assert single[1, 2] < 0  # the arrays given are left alone
    np.testing.assert_array_equal(checked.responses, np.maximum(single, 0))
    np.testing.assert_array_equal(np.isnan(checked.test_responses), np.isnan(test))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_rounding_is_judged_against_the_neurons_own_responses(scale: float) -> None:
    recording = make()
    scaled = replace(
        recording,
        responses=(recording.responses * np.float32(scale)),
        test_responses=recording.test_responses * np.float32(scale),
    )
    largest = max(scaled.responses[:, 2].max(), np.nanmax(scaled.test_responses[:, :, 2]))
    below = with_value(scaled.responses, (1, 2), -0.9e-6 * largest)
    assert check_recording(replace(scaled, responses=below)).responses[1, 2] == 0
    beyond = with_value(scaled.responses, (1, 2), -1.1e-6 * largest)
    assert check_recording(replace(scaled, responses=beyond)).responses[1, 2] < 0


def test_a_neuron_that_is_never_positive_has_no_rounding() -> None:
    recording = make()
    single = with_value(recording.responses, (slice(None), 2), -1e-9)
    test = recording.test_responses.copy()
    test[:, :, 2] = np.where(np.isnan(test[:, :, 2]), np.nan, np.float32(-1e-9))
    checked = check_recording(replace(recording, responses=single, test_responses=test))
    np.testing.assert_array_equal(checked.negative, [2])


# recording


def test_all_image_ids_are_increasing_and_unique() -> None:
    np.testing.assert_array_equal(make().all_image_ids, [1, 2, 3, 5, 7, 9])


def test_selected_neurons_keep_their_numbers_units_and_positions() -> None:
    recording, part = make(), make().select_neurons(1, 3)
    assert part.n_neurons == 2
    np.testing.assert_array_equal(part.neurons, [1, 2])
    np.testing.assert_array_equal(part.responses, recording.responses[:, 1:3])
    np.testing.assert_array_equal(part.test_responses, recording.test_responses[:, :, 1:3])
    np.testing.assert_array_equal(part.unit_ids, [12, 13])
    np.testing.assert_array_equal(part.x, [1, 2])
    np.testing.assert_array_equal(part.y, [5, 6])
    bare = make(unit_ids=None, x=None, y=None).select_neurons(1, 3)
    assert bare.unit_ids is None and bare.x is None and bare.y is None


@pytest.mark.parametrize(("first", "last"), [(0, 5), (2, 2), (3, 1), (-1, 2), (4, 5)])
def test_neurons_beyond_the_recording_are_refused(first: int, last: int) -> None:
    with pytest.raises(UserError, match=rf"\[{first}, {last}\] of m: it has 4 neurons"):
        make().select_neurons(first, last)


def test_the_spread_is_that_of_training_trials_alone() -> None:
    recording = make()
    wild = with_value(recording.responses, recording.validation, 1e4)
    training = recording.responses[[1, 2, 3, 5]].astype(np.float64)
    expected = np.sqrt(((training - training.mean(axis=0)) ** 2).mean(axis=0))
    np.testing.assert_allclose(make(responses=wild).spread.deviation, expected, rtol=1e-12)


def test_a_digest_is_that_of_the_fields_and_not_of_what_was_computed_since() -> None:
    recording = make()
    before = digest_recording(recording)
    assert recording.spread is recording.spread
    assert digest_recording(recording) == before
    assert digest_recording(make(name="n")) != before


def test_normalising_divides_trials_and_repeats_in_a_copy() -> None:
    recording = make()
    single, test = recording.responses.copy(), recording.test_responses.copy()
    std = recording.spread.deviation.astype(np.float32)
    scaled = normalise(recording, std)
    np.testing.assert_array_equal(scaled.responses, single / std)
    np.testing.assert_array_equal(scaled.test_responses, test / std)
    assert scaled.responses.dtype == scaled.test_responses.dtype == np.float32
    np.testing.assert_array_equal(recording.responses, single)
    np.testing.assert_array_equal(recording.test_responses, test)
    np.testing.assert_allclose(scaled.spread.deviation, 1, rtol=1e-5)
