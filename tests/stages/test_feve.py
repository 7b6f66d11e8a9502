"""FEV and FEVE against numbers worked out by hand, and their properties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cache import UserError
from stages.feve import fev_and_feve, feve_standard_error, pad_repeats

# Two images, two repeats, one neuron: 1, 3 and 5, 9.
#   total: mean 4.5, deviations -3.5 -1.5 0.5 4.5 -> squares 12.25 2.25 0.25 20.25 = 35, / 3
#   noise: variances 2 and 8, mean 5
TOTAL, NOISE = 35 / 3, 5.0
EQUAL = np.array([[[1.0], [3.0]], [[5.0], [9.0]]])


def test_equal_repeats_by_hand():
    # Predictions 2 and 6: errors 1 1 1 9, mean 3.
    fev, feve = fev_and_feve(EQUAL, np.array([[2.0], [6.0]]))
    assert fev[0] == pytest.approx((TOTAL - NOISE) / TOTAL)
    assert feve[0] == pytest.approx(1 - (3 - NOISE) / (TOTAL - NOISE))


def test_padded_and_ragged_repeats_by_hand():
    # Image 0: 1, 3; image 1: 5, 9, 4.
    #   total: mean 4.4, squares 11.56 1.96 0.36 21.16 0.16 = 35.2, / 4 = 8.8
    #   noise: 2 and (5, 9, 4: mean 6, squares 1 9 4 = 14, / 2) 7, mean 4.5
    #   error with predictions 2 and 6: 1 1 1 9 4 = 16, / 5 = 3.2
    padded = np.array([[[1.0], [3.0], [np.nan]], [[5.0], [9.0], [4.0]]])
    ragged = [np.array([[1.0], [3.0]]), np.array([[5.0], [9.0], [4.0]])]
    for responses in (padded, ragged, np.array(ragged, dtype=object)):
        fev, feve = fev_and_feve(responses, np.array([[2.0], [6.0]]))
        assert fev[0] == pytest.approx((8.8 - 4.5) / 8.8)
        assert feve[0] == pytest.approx(1 - (3.2 - 4.5) / (8.8 - 4.5))


def test_a_single_repeat_counts_in_total_and_error_but_not_in_noise():
    # As EQUAL, and image 2 shown once: 7, predicted 5.
    #   total: mean 5, squares 16 4 0 16 4 = 40, / 4 = 10;  noise 5;  error (3 * 4 + 4) / 5 = 3.2
    responses = [*EQUAL, np.array([[7.0]])]
    fev, feve = fev_and_feve(responses, np.array([[2.0], [6.0], [5.0]]))
    assert fev[0] == pytest.approx(0.5)
    assert feve[0] == pytest.approx(1 - (3.2 - 5) / 5)


def test_only_single_repeats_have_no_noise_estimate():
    fev, feve = fev_and_feve(np.array([[[1.0]], [[2.0]]]), np.array([[1.0], [2.0]]))
    assert np.isnan(fev[0]) and np.isnan(feve[0])


def test_no_explainable_variance_gives_nan_never_a_huge_number():
    # Every image the same pair: noise 0.5 exceeds total 1/3, FEV is negative.
    responses = np.tile([[[0.0], [1.0]]], (2, 1, 1))
    fev, feve = fev_and_feve(responses, np.array([[0.5], [0.5]]))
    assert fev[0] == pytest.approx((1 / 3 - 0.5) / (1 / 3))
    assert np.isnan(feve[0])


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, 1e6 / 7])
def test_a_silent_neuron_has_neither(value):
    fev, feve = fev_and_feve(np.full((5, 7, 1), value), np.ones((5, 1)))
    assert np.isnan(fev[0]) and np.isnan(feve[0])


def test_the_mean_response_of_noiseless_repeats_is_explained_wholly():
    signal = np.random.default_rng(0).random((20, 3))
    fev, feve = fev_and_feve(np.repeat(signal[:, None], 4, axis=1), signal)
    np.testing.assert_allclose(fev, 1)
    np.testing.assert_allclose(feve, 1)


def test_the_grand_mean_explains_about_nothing():
    rng = np.random.default_rng(1)
    responses = rng.random((200, 1, 4)) + 0.3 * rng.standard_normal((200, 10, 4))
    grand = np.tile(responses.mean(axis=(0, 1)), (200, 1))
    np.testing.assert_allclose(fev_and_feve(responses, grand)[1], 0, atol=0.02)


@given(
    hnp.arrays(np.float64, (6, 4, 2), elements=st.floats(0, 10)),
    hnp.arrays(np.float64, (6, 2), elements=st.floats(0, 10)),
    st.permutations(range(6)),
    st.floats(0.5, 4),
)
def test_order_of_images_and_units_of_response_do_not_matter(responses, predictions, order, unit):
    fev, feve = fev_and_feve(responses, predictions)
    assert ((feve <= 1 + 1 / (1e-300 + np.abs(fev))) | np.isnan(feve)).all()
    shuffled = fev_and_feve(responses[order] * unit, predictions[order] * unit)
    well = np.abs(np.nan_to_num(fev)) > 1e-6
    np.testing.assert_allclose(shuffled[0][well], fev[well], rtol=1e-6)
    np.testing.assert_allclose(shuffled[1][well], feve[well], rtol=1e-6, atol=1e-6)


def test_a_neuron_does_not_depend_on_its_neighbours():
    rng = np.random.default_rng(2)
    responses, predictions = rng.random((8, 3, 6)), rng.random((8, 6))
    whole = fev_and_feve(responses, predictions)
    for n in range(6):
        alone = fev_and_feve(responses[:, :, n : n + 1], predictions[:, n : n + 1])
        np.testing.assert_allclose(np.ravel(alone), [whole[0][n], whole[1][n]])


def test_shapes_that_disagree_are_refused():
    with pytest.raises(UserError, match=r"predictions have shape \(3, 1\).*2 images and 1 neurons"):
        fev_and_feve(EQUAL, np.zeros((3, 1)))
    with pytest.raises(UserError, match=r"expected \(image, repeat, neuron\)"):
        fev_and_feve(np.zeros((2, 2)), np.zeros((2, 2)))
    with pytest.raises(UserError, match="same neurons"):
        fev_and_feve([np.zeros((2, 1)), np.zeros((2, 2))], np.zeros((2, 1)))
    with pytest.raises(UserError, match="not finite"):
        fev_and_feve(EQUAL, np.array([[np.nan], [1.0]]))


def a_population(n_images=40, n_neurons=4, seed=0):
    """Responses with some repeats missing, and imperfect predictions."""
    rng = np.random.default_rng(seed)
    rates = rng.gamma(2, 1, (n_images, n_neurons))
    r = rates[:, None, :] + 0.5 * rng.standard_normal((n_images, 6, n_neurons))
    r[rng.random((n_images, 6)) < 0.2] = np.nan
    return r, rates + 0.3 * rng.standard_normal(rates.shape)


def test_the_standard_error_is_that_of_resampled_images():
    r, p = a_population()
    draws = np.random.default_rng(3).multinomial(40, np.full(40, 1 / 40), size=50)
    rows = [np.repeat(np.arange(40), drawn) for drawn in draws]
    one_by_one = np.std([fev_and_feve(r[i], p[i])[1] for i in rows], axis=0, ddof=1)
    ours = feve_standard_error(r, p, resamples=50, seed=3)
    np.testing.assert_allclose(ours, one_by_one, rtol=1e-9)
    assert (ours > 0).all()


def test_the_standard_error_covers_what_other_images_give():
    """Its average is the scatter over independent sets of test images."""
    sets = [a_population(n_images=150, n_neurons=20, seed=seed) for seed in range(40)]
    scatter = np.std([fev_and_feve(r, p)[1] for r, p in sets], axis=0, ddof=1).mean()
    told = np.mean([feve_standard_error(r, p) for r, p in sets])
    assert told == pytest.approx(scatter, rel=0.15)


def test_no_standard_error_where_feve_cannot_be_told():
    r, p = a_population()
    r[:, :, 0] = 1.0
    r[:, :, 1] = np.random.default_rng(0).standard_normal(r.shape[:2])
    told = feve_standard_error(r, p)
    assert np.isnan(told[:2]).all() and np.isfinite(told[2:]).all()
    assert np.isnan(feve_standard_error(r[:1], p[:1])).all()


@given(st.lists(st.integers(0, 4), max_size=5), st.integers(1, 3))
def test_padded_repeats_give_back_every_response(counts, n_neurons):
    parts = [np.full((n, n_neurons), i, dtype=np.float64) for i, n in enumerate(counts)]
    padded = pad_repeats(parts, n_neurons, dtype=np.float32)
    assert padded.shape == (len(counts), max(counts, default=0), n_neurons)
    assert padded.dtype == np.float32
    for image, n in zip(padded, counts, strict=True):
        assert np.isfinite(image[:n]).all() and np.isnan(image[n:]).all()
    assert np.nansum(padded) == sum(part.sum() for part in parts)


def simulated_feve(case, n_images=100, n_repeats=10, n_neurons=1500):
    """FEVE of simulated neurons whose true FEVE is 0.5."""
    rng = np.random.default_rng(0)
    signal, error = rng.standard_normal((2, n_images, n_neurons))
    noise, count = np.full(signal.shape, 1.5), np.full(signal.shape, n_repeats)
    if case == "half shown once":
        count[: n_images // 2] = 1
    if case == "both grow":
        noise = noise * np.exp(signal / 2)
        count = np.where(signal > np.median(signal, axis=0), 2 * n_repeats - 2, 2)
    r = rng.standard_normal((n_images, count.max(), n_neurons))
    r = signal[:, None] + noise[:, None] * r
    r[np.arange(r.shape[1])[None, :, None] >= count[:, None]] = np.nan
    return fev_and_feve(r, signal + np.sqrt(0.5) * error)[1]


@pytest.mark.parametrize(
    ("case", "mean"), [("alike", 0.481), ("half shown once", 0.470), ("both grow", 0.03)]
)
def test_the_bias_that_its_docstring_tells(case, mean):
    feve = simulated_feve(case)
    assert np.nanmean(feve) == pytest.approx(mean, abs=0.01)
    if case != "both grow":
        assert np.nanmedian(feve) == pytest.approx(0.5, abs=0.01)
