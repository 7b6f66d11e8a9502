"""What responses are divided by: the same in any unit, silent neurons and published floors."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.spread import (
    PUBLISHED_FLOOR,
    Spread,
    response_scale,
    scale_inputs,
    spread_of,
    varies,
    warn_of_scale,
)

#: Deviations 2, 0.5, 0.004; a neuron that always responds alike, and a silent one.
DEVIATION = np.array([2.0, 0.5, 0.004, 0.0, 0.0])
SPREAD = Spread(np.array([1.0, 3.0, 0.01, 0.25, 0.0]), DEVIATION)


def times(unit):
    return Spread(SPREAD.mean * unit, SPREAD.deviation * unit)


def test_neurons_are_divided_by_their_own_deviation_or_mean_and_silent_ones_by_the_median():
    expected = np.array([2, 0.5, 0.004, 0.25, np.median([2, 0.5, 0.004, 0.25])], np.float32)
    np.testing.assert_array_equal(response_scale(SPREAD), expected)


@given(st.integers(-60, 60), st.sampled_from([None, PUBLISHED_FLOOR]))
@settings(deadline=None)
def test_another_unit_gives_the_same_scale_in_that_unit(power, floor):
    scale = response_scale(times(2.0**power), floor=None)
    np.testing.assert_array_equal(scale, response_scale(SPREAD) * np.float32(2.0**power))
    floored = response_scale(times(2.0**power), floor=floor)
    np.testing.assert_array_equal(floored[:2], scale[:2])


def test_the_published_floor_is_kept_in_its_units_and_in_no_other():
    in_units = response_scale(SPREAD, floor=PUBLISHED_FLOOR)
    np.testing.assert_array_equal(in_units, np.float32([2, 0.5, 0.01, 0.01, 0.01]))
    for unit in (2.0**-5, 2.0**-20):
        other = response_scale(times(unit), floor=PUBLISHED_FLOOR)
        np.testing.assert_array_equal(other, response_scale(SPREAD) * np.float32(unit))


def test_a_population_that_never_responds_has_no_unit():
    nothing = Spread(np.zeros(3), np.zeros(3))
    np.testing.assert_array_equal(response_scale(nothing), 1)
    np.testing.assert_array_equal(response_scale(nothing, floor=0.01), np.float32(0.01))


def test_one_neuron_that_always_responds_alike_is_divided_by_its_response():
    for unit in (1e-6, 1.0, 1e6):
        scale = response_scale(spread_of(np.full((50, 1), 0.3 * unit, np.float32)))
        np.testing.assert_allclose(scale, 0.3 * unit, rtol=1e-6)


def test_rounding_is_no_variation():
    jitter = 0.3 * (1 + 1e-7 * np.random.default_rng(0).standard_normal((50, 1)))
    np.testing.assert_allclose(response_scale(spread_of(jitter)), 0.3, rtol=1e-6)


@pytest.mark.parametrize("at_a_time", [1, 70, 10**6])
def test_the_spread_is_that_of_the_chosen_trials(monkeypatch, at_a_time):
    monkeypatch.setattr("stages.spread.AT_A_TIME", at_a_time)
    r = np.random.default_rng(0).gamma(1.0, 2.0, (40, 7)).astype(np.float32)
    trials = np.arange(40) % 3 > 0
    expected = r[trials].astype(np.float64)
    found = spread_of(r, trials)
    np.testing.assert_allclose(found.mean, expected.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.deviation, expected.std(axis=0), rtol=1e-12)


def test_a_key_speaks_of_the_scale_only_where_earlier_versions_had_another():
    usual = Spread(np.ones(2), np.array([2.0, 0.5]))
    assert scale_inputs(usual, floor=None) == scale_inputs(usual, floor=PUBLISHED_FLOOR) == {}
    assert scale_inputs(SPREAD, floor=PUBLISHED_FLOOR) == {}
    assert scale_inputs(SPREAD, floor=None) == {"scale": "in any unit"}
    assert scale_inputs(times(1e-3), floor=PUBLISHED_FLOOR) == {"scale": "in any unit"}


def test_neurons_that_are_divided_by_something_else_are_named():
    neurons = np.arange(10, 15)
    with pytest.warns(UserWarning, match=r"m: 2 of 5 neurons .*\(13, 14\); .* by 0.25 to 0.375"):
        warn_of_scale(SPREAD, floor=None, name="m", neurons=neurons)
    with pytest.warns(UserWarning, match=r"m: 3 of 5 neurons .*\(12, 13, 14\); .* by 0.01, not"):
        warn_of_scale(SPREAD, floor=PUBLISHED_FLOOR, name="m", neurons=neurons)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        usual = Spread(np.ones(2), np.array([2.0, 0.5]))
        warn_of_scale(usual, floor=PUBLISHED_FLOOR, name="m", neurons=neurons)


def test_values_vary_where_they_differ_by_more_than_rounding():
    values = np.array([[1.0, 1.0, 0.0, 1e-9], [1.0, 1 + 1e-7, 0.0, 2e-9]])
    assert varies(values).tolist() == [False, False, False, True]
    assert varies(values, rounding=0).tolist() == [False, True, False, True]
    assert not varies(np.empty((0, 2))).any()
