"""r2_er against its published formula, and against simulations whose truth is known."""

import numpy as np
import pytest
from support.repeats import population, with_missing

from stages.scores import r2_er


def published(r, p):
    """The estimator of Pospisil and Bair for one neuron: r (repeat, image), p (image,)."""
    n, m = r.shape
    noise = r.var(axis=0, ddof=1).mean() / n
    v, y = p - p.mean(), r.mean(axis=0) - r.mean()
    return ((v @ y) ** 2 - noise * (v @ v)) / ((v @ v) * (y @ y) - (m - 1) * noise * (v @ v))


def test_complete_repeats_by_the_published_formula():
    r, p = population()
    expected = [published(r[:, :, n].T, p[:, n]) for n in range(r.shape[2])]
    np.testing.assert_allclose(r2_er(r, p).r2, expected, rtol=1e-9)


@pytest.mark.parametrize("r2", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("missing", [False, True])
def test_the_truth_is_met_and_covered(r2, missing):
    r, p = population(n_images=150, n_neurons=400, r2=r2)
    told = r2_er(with_missing(r) if missing else r, p)
    assert np.mean(told.r2) == pytest.approx(r2, abs=0.02)
    assert 0.92 <= np.mean((told.low <= r2) & (r2 <= told.high)) <= 0.99
    assert (told.low <= told.high).all()
    # Without the correction for noise it would be far off.
    naive = np.corrcoef(np.nanmean(r, axis=1).T, p.T).diagonal(400) ** 2
    assert np.mean(naive) < 0.9 * r2


def test_no_noise_leaves_no_doubt_and_few_images_leave_all():
    r, p = population(noise=1e-6)
    np.testing.assert_allclose(r2_er(r, p), 0.5, atol=2e-3)
    few = r2_er(r[:3], p[:3])
    assert np.isfinite(few.r2).all() and np.isnan([few.low, few.high]).all()


def test_a_narrower_level_is_within_a_wider_one():
    r, p = population()
    narrow, wide = r2_er(r, p, level=0.5), r2_er(r, p, level=0.95)
    assert (wide.low <= narrow.low).all() and (narrow.high <= wide.high).all()


def test_a_neuron_does_not_depend_on_its_neighbours():
    r, p = population(n_neurons=4)
    r = with_missing(r)
    whole = np.stack(r2_er(r, p))
    for n in range(4):
        alone = np.stack(r2_er(r[:, :, n : n + 1], p[:, n : n + 1]))
        np.testing.assert_allclose(alone[:, 0], whole[:, n], rtol=1e-9)


def test_what_does_not_vary_and_single_repeats_have_none():
    r, p = population(n_neurons=3)
    r[:, :, 0], p[:, 1] = 2.0, 0.0
    assert np.isnan(r2_er(r, p).r2).tolist() == [True, True, False]
    assert np.isnan(r2_er(r[:, :1], p)).all()
