"""The default solver: exactness of its steps, recovery, and what its results do not depend on."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from support.planted import plant

from stages.readouts.als import memory, partition
from stages.readouts.als.alternating import (
    AlternatingLeastSquares,
    Factors,
    initial_factors,
    position_grams,
)
from stages.readouts.als.pca import ReducedTokens, principal_components
from stages.readouts.als.sufficient_statistics import sum_products, sum_trials
from stages.readouts.settings import ALSSettings
from stages.readouts.solvers import fit_readouts
from stages.scores import variance_explained
from stages.tokens.tokens import ArrayTokens

EXACT = ALSSettings(
    penalties=(1e-5, 1e-7), variance_kept=1.0, tolerance=1e-7, max_rounds=200, output="linear"
)


def alternation(planted, *, tolerance=1e-6, max_rounds=50):
    x, r = torch.from_numpy(planted.x), torch.from_numpy(planted.r)
    settings = ALSSettings(
        variance_kept=1.0, max_components=99, basis_images=10**6, scale_limit=1e9,
        tolerance=tolerance, max_rounds=max_rounds,
    )  # fmt: skip
    components = principal_components(ArrayTokens(x), settings, device=torch.device("cpu"))
    tokens = ReducedTokens(ArrayTokens(x), components, keep=True)
    statistics = sum_trials(tokens, r).statistics(sum_products(tokens))
    als = AlternatingLeastSquares(statistics.gram, statistics.mean_tokens.shape, settings)
    z = torch.cat([part for _, _, part in tokens])
    return als, statistics, z


def flat(statistics):
    m, h, w, k = statistics.cross.shape
    return Factors(torch.full((m, h), h**-0.5), torch.full((m, w), w**-0.5), torch.zeros(m, k))


def correlations(a, b):
    return np.array([np.corrcoef(p, q)[0, 1] for p, q in zip(a, b, strict=True)])


@pytest.mark.parametrize("grid", [(3, 4), (1, 5), (1, 1)])
def test_noiseless_planted_readouts_are_recovered(grid):
    planted = plant(grid=grid)
    fit = fit_readouts(*planted.split(200), settings=EXACT)
    assert (correlations(fit.channel_weights, planted.channel) > 0.999).all()
    if grid != (1, 1):
        maps = np.einsum("mh,mw->mhw", fit.row_weights, fit.column_weights)
        truth = np.einsum("mh,mw->mhw", planted.row, planted.column)
        assert (correlations(maps.reshape(9, -1), truth.reshape(9, -1)) > 0.999).all()
    x, r = planted.split(200)[2:]
    assert (variance_explained(r, fit.predict(x)) > 0.999).all()


def test_channels_given_space_are_the_ridge_of_sklearn():
    planted = plant(noise=1.0, n_neurons=3)
    als, statistics, z = alternation(planted)
    draw = torch.Generator().manual_seed(0)
    space = Factors(torch.rand(3, 3, generator=draw), torch.rand(3, 4, generator=draw), None)
    penalty = 0.3
    found, _ = als.channels(statistics.cross, space, torch.full((3,), penalty))
    for neuron in range(3):
        features = torch.einsum("nhwk,h,w->nk", z, space.row[neuron], space.column[neuron]).numpy()
        weight = float(space.row[neuron].square().sum() * space.column[neuron].square().sum())
        ridge = Ridge(alpha=penalty * weight * len(z)).fit(features, planted.r[:, neuron])
        np.testing.assert_allclose(found[neuron], ridge.coef_, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("penalty", [1e-3, 0.1, 3.0])
def test_the_objective_never_rises(penalty):
    als, statistics, z = alternation(plant(noise=2.0))
    ridge = torch.full((9,), penalty)
    factors = flat(statistics)
    r = torch.from_numpy(plant(noise=2.0).r)
    before = torch.zeros(9)
    reached = []
    for _ in range(15):
        channel, between = als.channels(statistics.cross, factors, ridge)
        factors, objective = als.space(
            statistics.cross, Factors(factors.row, factors.column, channel), ridge
        )
        rounding = 1e-5 * objective.abs()
        assert (between <= before + rounding).all() and (objective <= between + rounding).all()
        before = objective
        reached.append(objective)
    # It is what it says: the residual's mean square plus the penalty, less the variance.
    errors = (r - r.mean(0) - factors.predict(z - z.mean(0))).square().mean(0)
    weights = factors.weights().square().sum(1)
    expected = errors + penalty * weights - r.var(0, correction=0)
    np.testing.assert_allclose(reached[-1], expected, rtol=1e-3, atol=1e-4)
    assert (reached[-1] < reached[0]).any()


def test_rows_and_columns_are_unit_and_not_negative():
    als, statistics, _ = alternation(plant(noise=1.0))
    penalty = 0.01
    grams = position_grams(statistics.gram, statistics.mean_tokens.shape)
    start = initial_factors(statistics.cross, grams, penalty)
    factors, _ = als.solve(statistics.cross, start, torch.full((9,), penalty))
    for weights in (factors.row, factors.column):
        assert (weights >= 0).all()
        np.testing.assert_allclose(weights.norm(dim=1), 1, rtol=1e-5)


@pytest.fixture(scope="module")
def noisy():
    return plant(noise=1.5, n_trials=900, n_neurons=16, link="elu")


@pytest.fixture(scope="module")
def fitted(noisy):
    return fit_readouts(*noisy.split(200))


def same(one, other, *, exactly=False):
    for name in ("row_weights", "column_weights", "channel_weights", "bias"):
        a, b = getattr(one, name), getattr(other, name)
        if exactly:
            np.testing.assert_array_equal(a, b)
        else:
            np.testing.assert_allclose(a, b, atol=2e-3 * np.abs(b).max())


@pytest.mark.parametrize("size", [1, 7])
def test_batch_sizes_agree_per_neuron(noisy, fitted, size, monkeypatch):
    monkeypatch.setattr(partition, "NEURON_BATCH", size)
    same(fit_readouts(*noisy.split(200)), fitted)


def test_a_rerun_is_identical(noisy, fitted):
    same(fit_readouts(*noisy.split(200), seed=0), fitted, exactly=True)


def test_predictions_explain_what_can_be(noisy, fitted):
    x, r = noisy.split(200)[2:]
    clean = plant(noise=0.0, n_trials=900, n_neurons=16, link="elu").split(200)[3]
    ceiling = variance_explained(r, clean)
    assert variance_explained(r, fitted.predict(x)).mean() > 0.85 * ceiling.mean()


def test_readouts_as_refitted_have_more_trials_and_leave_the_score_alone(noisy, fitted):
    """What scores the validation trials was not fitted to them."""
    once = fit_readouts(*noisy.split(200), settings=ALSSettings(refit=False))
    assert once.unrefitted is None and once.held_out is once
    same(fitted.held_out, once, exactly=True)
    assert fitted.curve == once.curve and (fitted.penalty == once.penalty).all()
    assert (np.abs(fitted.channel_weights - once.channel_weights) > 0).any()
    fresh = plant(noise=0.0, n_trials=3000, n_neurons=16, link="elu")
    x, r, _, _ = fresh.split(900)
    before, after = (variance_explained(r, fit.predict(x)) for fit in (once, fitted))
    assert after.mean() > before.mean()


def test_units_of_responses_and_tokens_carry_over(noisy, fitted):
    x_train, r_train, x_val, r_val = noisy.split(200)
    scaled = fit_readouts(10 * x_train + 3, 5 * r_train, 10 * x_val + 3, 5 * r_val)
    np.testing.assert_allclose(
        scaled.predict(10 * x_val + 3), 5 * fitted.predict(x_val), rtol=0.02, atol=0.02
    )


def test_factors_share_their_scale(fitted):
    norms = [
        np.linalg.norm(w, axis=1)
        for w in (fitted.row_weights, fitted.column_weights, fitted.channel_weights)
    ]
    np.testing.assert_allclose(norms[0], norms[1], rtol=1e-4)
    np.testing.assert_allclose(norms[0], norms[2], rtol=1e-4)
    assert (fitted.penalty > 0).all() and fitted.penalty.shape == (16,)


def test_neurons_that_never_respond_or_never_vary_are_fitted_too(noisy, fitted):
    x_train, r_train, x_val, r_val = noisy.split(200)
    r_train, r_val = r_train.copy(), r_val.copy()
    r_train[:, 3], r_val[:, 3] = 0, 0
    r_train[:, 5], r_val[:, 5] = 2, 2
    fit = fit_readouts(x_train, r_train, x_val, r_val)
    rates = fit.predict(x_val)
    assert np.isfinite(rates).all()
    assert rates[:, 3].max() < 0.01 and rates[:, 5] == pytest.approx(2, rel=0.05)
    assert (fit.row_weights[[3, 5]].sum(axis=1) > 0).all()  # training could go on from there
    others = np.setdiff1d(np.arange(16), [3, 5])
    before = fitted.predict(x_val)[:, others]
    assert np.corrcoef(rates[:, others].ravel(), before.ravel())[0, 1] > 0.99


def test_linear_output_is_the_clipped_least_squares_predictor(noisy):
    x, r = noisy.split(200)[2:]
    fit = fit_readouts(*noisy.split(200), settings=ALSSettings(output="linear"))
    assert fit.output == "linear"
    z = np.einsum("nhwk,mh,mw,mk->nm", x, fit.row_weights, fit.column_weights, fit.channel_weights)
    expected = np.maximum(z + fit.bias, 0) * fit.scale
    np.testing.assert_allclose(fit.predict(x), expected, rtol=1e-4, atol=1e-4)
    assert variance_explained(r, fit.predict(x)).mean() > 0


def test_results_do_not_depend_on_the_memory_limit(noisy, fitted, monkeypatch):
    plans = []

    def small(problem, limit):
        plan = memory.MemoryPlan(keep=False, rows_at_once=1)
        plans.append(limit)
        return plan

    monkeypatch.setattr("stages.readouts.als.fit.plan_memory", small)
    same(fit_readouts(*noisy.split(200), memory_limit=123), fitted, exactly=True)
    assert plans == [123]
