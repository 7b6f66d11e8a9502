"""Correlations with repeated responses: against the formulas of their papers, and known truth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.repeats import population, with_missing

from cache import UserError
from stages import scores

SCORES = (scores.single_trial_correlation, scores.test_correlation, scores.cc_norm)


def schoppe(r, p):
    """Their equations 6 and 7, for one neuron: r (repeat, image), p (image,)."""
    n = len(r)
    power = (r.sum(0).var(ddof=1) - r.var(1, ddof=1).sum()) / (n * (n - 1))
    return np.cov(p, r.mean(0))[0, 1] / np.sqrt(p.var(ddof=1) * power)


def test_complete_repeats_by_the_published_formulas():
    r, p = population()
    for neuron in range(r.shape[2]):
        ours = [score(r, p)[neuron] for score in SCORES]
        own, pairs = p[:, neuron], r[:, :, neuron]
        expected = (
            np.corrcoef(np.repeat(own, 8), pairs.ravel())[0, 1],
            np.corrcoef(own, pairs.mean(axis=1))[0, 1],
            schoppe(pairs.T, own),
        )
        np.testing.assert_allclose(ours, expected, rtol=1e-9)


def test_missing_repeats_are_left_out_neuron_by_neuron():
    r, p = population()
    r = with_missing(r)
    for neuron in range(r.shape[2]):
        own, pairs = p[:, neuron], r[:, :, neuron]
        there = np.isfinite(pairs)
        seen = there.any(axis=1)
        single = np.corrcoef(np.repeat(own, 8)[there.ravel()], pairs[there])[0, 1]
        average = np.corrcoef(own[seen], np.nanmean(pairs[seen], axis=1))[0, 1]
        assert scores.single_trial_correlation(r, p)[neuron] == pytest.approx(single)
        assert scores.test_correlation(r, p)[neuron] == pytest.approx(average)


@pytest.mark.parametrize("missing", [False, True])
def test_cc_norm_is_the_correlation_with_the_signal(missing):
    r, p = population(n_images=150, n_neurons=300)
    r = with_missing(r) if missing else r
    assert np.mean(scores.cc_norm(r, p)) == pytest.approx(np.sqrt(0.5), abs=0.015)
    # What noise takes from the others.
    assert np.mean(scores.test_correlation(r, p)) < np.sqrt(0.5) - 0.05


def test_noise_that_grows_with_the_signal_biases_cc_norm_little():
    rng = np.random.default_rng(0)
    signal, other = rng.standard_normal((2, 200, 300))
    p = (signal + other) / np.sqrt(2)
    r = signal[:, None] + np.exp(signal / 2)[:, None] * rng.standard_normal((200, 10, 300))
    count = np.where(signal > 0, 10, 3)
    r[np.arange(10)[None, :, None] >= count[:, None]] = np.nan
    assert np.mean(scores.cc_norm(r, p)) == pytest.approx(np.sqrt(0.5), abs=0.02)


@pytest.mark.parametrize("score", SCORES)
def test_what_does_not_vary_has_no_score(score):
    r, p = population(n_neurons=3)
    r[:, :, 0], p[:, 1] = 1 / 3, 0.1
    assert np.isnan(score(r, p)).tolist() == [True, True, False]
    assert np.isnan(score(np.full_like(r, np.nan), p)).all()
    assert score(r[:0], p[:0]).shape == (3,)
    with pytest.raises(UserError, match="not finite"):
        score(r, np.full_like(p, np.nan))


def test_only_noise_has_no_signal_power():
    rng = np.random.default_rng(3)
    told = scores.cc_norm(rng.standard_normal((50, 4, 400)), rng.standard_normal((50, 400)))
    assert 0.3 < np.isnan(told).mean() < 0.7


@given(st.floats(0.1, 10), st.floats(-5, 5), st.permutations(range(12)))
def test_units_and_the_order_of_images_do_not_matter(unit, shift, order):
    r, p = population(n_images=12, n_repeats=3, n_neurons=2)
    r = with_missing(r)
    for score in SCORES:
        moved = score(r[order] * unit + shift, p[order] / unit - shift)
        np.testing.assert_allclose(moved, score(r, p), rtol=1e-6)
