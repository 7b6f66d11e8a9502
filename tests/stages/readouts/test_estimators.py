"""Readouts for who has arrays only: held-out trials, scores, files, scikit-learn's methods."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from sklearn.base import clone
from sklearn.utils.estimator_checks import check_estimator

from cache import UserError
from stages.feve import fev_and_feve
from stages.readouts import FactorisedReadout, Readouts, fit_readouts

RNG = np.random.default_rng(0)
X = RNG.normal(size=(80, 2, 3, 4)).astype(np.float32)
RATES = np.log1p(np.exp(X[:, 0, 1] @ RNG.normal(size=(4, 3))))
REPEATS = RNG.poisson(5 * RATES[:20, None], (20, 6, 3)) / 5


def test_a_tenth_is_held_out_by_the_seed() -> None:
    fit = fit_readouts(X, RATES, seed=3)
    order = np.random.default_rng(3).permutation(80)
    training, validation = np.sort(order[8:]), np.sort(order[:8])
    same = fit_readouts(X[training], RATES[training], X[validation], RATES[validation], seed=3)
    np.testing.assert_array_equal(fit.channel_weights, same.channel_weights)
    other = fit_readouts(X, RATES, seed=4)
    assert (other.channel_weights != fit.channel_weights).any()
    with pytest.raises(UserError, match="pass both x_val and r_val, or neither"):
        fit_readouts(X, RATES, X)
    with pytest.raises(UserError, match="one row of responses per image"):
        fit_readouts(X, RATES[1:])


@pytest.mark.parametrize("kind", ["list", "xarray", "frame", "float64", "read-only", "strided"])
def test_arrays_of_all_kinds_give_the_same(kind: str) -> None:
    flat = X.reshape(80, -1)
    expected = fit_readouts(flat, RATES).bias
    x, r = flat, RATES
    if kind == "list":
        x, r = flat.tolist(), RATES.tolist()
    elif kind == "xarray":
        x = xr.DataArray(flat.T, dims=("channel", "image"))
        r = xr.DataArray(RATES.T, dims=("neuron", "image"))
    elif kind == "frame":
        x, r = pd.DataFrame(flat), pd.DataFrame(RATES)
    elif kind == "float64":
        x = flat.astype(np.float64)
    elif kind == "read-only":
        x, r = flat.copy(), RATES.copy()
        x.flags.writeable = r.flags.writeable = False
    else:
        x, r = np.repeat(flat, 2, axis=1)[:, ::2], np.asfortranarray(RATES)
    np.testing.assert_allclose(fit_readouts(x, r).bias, expected, rtol=1e-5, atol=1e-6)


def test_readouts_score_and_are_saved(tmp_path: Path) -> None:
    fit = fit_readouts(X[20:], RATES[20:])
    fev, feve = fev_and_feve(REPEATS, fit.predict(X[:20]))
    assert fit.score(X[:20], REPEATS) == pytest.approx(feve[fev > 0.15].mean())
    fit.save(tmp_path / "fit.npz")
    again = Readouts.load(tmp_path / "fit.npz")
    np.testing.assert_array_equal(again.predict(X), fit.predict(X))
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    for name, said in (("other.npz", "holds no readouts"), ("none.npz", "does not exist")):
        with pytest.raises(UserError, match=said):
            Readouts.load(tmp_path / name)
    with pytest.raises(UserError, match=r"saved as .npz"):
        fit.save(tmp_path / "fit.pkl")


def test_the_estimator_predicts_and_scores_as_scikit_learn_has_it() -> None:
    made = FactorisedReadout(solver="als", seed=1).fit(X[20:], RATES[20:])
    assert made.get_params() == {"solver": "als", "settings": None, "seed": 1}
    assert clone(made).get_params() == made.get_params()
    np.testing.assert_array_equal(made.predict(X), made.readouts_.predict(X))
    assert made.score(X[:20], RATES[:20]) > 0.5
    assert made.score(X[:20], REPEATS) == made.readouts_.score(X[:20], REPEATS)
    assert made.fit(X, RATES[:, 0]).predict(X).shape == (80,)


def test_the_checks_of_scikit_learn_pass() -> None:
    # Its responses are negative there, whatever the estimator's tags say.
    expected = {"check_regressor_multioutput": "responses below 0"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(
            FactorisedReadout(), expected_failed_checks=expected, on_skip=None
        )
    assert len(results) > 40
