"""Variance explained and correlation against scikit-learn and numpy."""

import numpy as np
from sklearn.metrics import r2_score

from stages.scores import correlation, mean_score, variance_explained


def test_variance_explained_is_r2():
    rng = np.random.default_rng(0)
    r, p = rng.random((30, 4)), rng.random((30, 4))
    np.testing.assert_allclose(variance_explained(r, p), r2_score(r, p, multioutput="raw_values"))


def test_correlation_is_pearson_s():
    rng = np.random.default_rng(0)
    r, p = rng.random((30, 4)), rng.random((30, 4)).astype(np.float32)
    expected = [np.corrcoef(r[:, n], p[:, n])[0, 1] for n in range(4)]
    np.testing.assert_allclose(correlation(r, p), expected, rtol=1e-6)


def test_a_constant_side_gives_nan():
    r = np.array([[1.0, 1.0], [2.0, 1.0]])
    p = np.array([[1.0, 1.0], [1.0, 2.0]])
    assert np.isnan(variance_explained(r, p)).tolist() == [False, True]
    assert np.isnan(correlation(r, p)).all()


def test_the_score_leaves_out_neurons_that_do_not_vary():
    r = np.array([[1.0, 2.0], [3.0, 2.0]])
    assert mean_score(r, r) == 1
    assert mean_score(r[:, 1:], r[:, 1:]) == -np.inf
