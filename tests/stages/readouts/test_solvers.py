"""`fit_readouts` with each solver: shapes, units, refusals."""

import numpy as np
import pytest
import torch
from support.planted import plant

from cache import UserError
from stages.readouts.settings import AdamWSettings, ALSSettings
from stages.readouts.solvers import SOLVERS, fit_readouts
from stages.scores import variance_explained

QUICK = {
    "als": ALSSettings(polish_rounds=1),
    "adamw": AdamWSettings(learning_rate=0.02, max_epochs=15, penalty=0.001, clip_norm=None),
}


@pytest.fixture(scope="module")
def data():
    return plant(n_trials=500, noise=0.5, link="elu").split(100)


@pytest.fixture(scope="module", params=sorted(QUICK))
def fitted(request, data):
    return request.param, fit_readouts(*data, solver=request.param, settings=QUICK[request.param])


def test_every_solver_is_tested():
    assert set(SOLVERS) == set(QUICK)


def test_shapes_and_signs(fitted, data):
    _, fit = fitted
    assert fit.row_weights.shape == (9, 3) and fit.column_weights.shape == (9, 4)
    assert fit.channel_weights.shape == (9, 8) and fit.bias.shape == fit.scale.shape == (9,)
    assert (fit.row_weights >= 0).all() and (fit.column_weights >= 0).all()
    rates = fit.predict(data[2])
    assert rates.shape == data[3].shape and rates.dtype == np.float32 and (rates >= 0).all()
    assert fit.curve


def test_predictions_are_in_units_of_the_responses(fitted, data):
    solver, fit = fitted
    explained = variance_explained(data[3], fit.predict(data[2]))
    assert explained.mean() > 0.3
    x_train, r_train, x_val, r_val = data
    larger = fit_readouts(
        x_train, 8 * r_train, x_val, 8 * r_val, solver=solver, settings=QUICK[solver]
    )
    np.testing.assert_allclose(larger.predict(x_val), 8 * fit.predict(x_val), rtol=1e-3, atol=1e-3)


def test_progress_is_called_for_every_epoch(data):
    for solver, settings in QUICK.items():
        seen = []
        fit = fit_readouts(*data, solver=solver, settings=settings, progress=seen.append)
        assert [epoch.epoch for epoch in seen] == [epoch.epoch for epoch in fit.curve]


def test_the_default_is_als(data):
    default, named = fit_readouts(*data), fit_readouts(*data, solver="als", settings=ALSSettings())
    np.testing.assert_array_equal(default.channel_weights, named.channel_weights)


def test_float16_tensors_and_cls_tokens_are_taken(data):
    x_train, r_train, x_val, r_val = data
    cls = [torch.from_numpy(x[:, 1, 2]).half() for x in (x_train, x_val)]
    fit = fit_readouts(cls[0], r_train, cls[1], r_val)
    assert fit.grid == (1, 1, 8) and fit.predict(cls[1]).shape == r_val.shape


@pytest.mark.parametrize("solver", sorted(QUICK))
def test_bad_input_is_one_line(data, solver):
    x_train, r_train, x_val, r_val = data
    spoilt = x_train.copy()
    spoilt[3, 1, 1, 1] = np.nan
    cases = [
        ((x_train[:-1], r_train, x_val, r_val), "one row of responses per image"),
        ((x_train, r_train - 5, x_val, r_val), "NaN or negative training"),
        ((x_train, r_train, x_val, np.full_like(r_val, np.nan)), "negative validation"),
        ((x_train, r_train, x_val[..., :5], r_val), "differ in tokens"),
        ((x_train, r_train, x_val, r_val[:, :5]), "or neurons"),
        ((spoilt, r_train, x_val, r_val), "not all finite"),
        ((x_train[0], r_train, x_val, r_val), "expected"),
    ]
    for arguments, message in cases:
        with pytest.raises(UserError, match=message) as error:
            fit_readouts(*arguments, solver=solver)
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="neurons has shape"):
        fit_readouts(*data, solver=solver, neurons=np.arange(4))


def test_an_unknown_solver_names_the_known_ones(data):
    with pytest.raises(UserError, match="als, adamw"):
        fit_readouts(*data, solver="sgd")


def test_responses_are_overwritten_only_where_they_may_be(fitted, data):
    solver, fit = fitted
    x_train, r_train, x_val, r_val = data
    train, val = r_train.astype(np.float32), r_val.astype(np.float32)
    for overwrite in (False, True):
        np.testing.assert_array_equal(train, r_train.astype(np.float32))
        other = fit_readouts(
            x_train, train, x_val, val, solver=solver, settings=QUICK[solver], overwrite=overwrite
        )
        np.testing.assert_array_equal(other.channel_weights, fit.channel_weights)
    np.testing.assert_array_equal(train, r_train.astype(np.float32) / fit.scale)
