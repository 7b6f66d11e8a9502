"""The default solver on the trials: the other way's numbers, missing responses, fine grids."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from support.planted import plant

from cache import UserError
from stages.readouts.als import memory
from stages.readouts.als.alternating import Factors
from stages.readouts.als.cost import als_cost
from stages.readouts.als.memory import plan_memory, problem_of
from stages.readouts.als.pca import ReducedTokens, principal_components
from stages.readouts.als.trials.pooled import PooledSums, own_trials
from stages.readouts.settings import ALSSettings
from stages.readouts.sizes import FitSize
from stages.readouts.solvers import fit_readouts
from stages.scores import variance_explained
from stages.tokens.tokens import ArrayTokens

SMALL = ALSSettings(max_components=16)


@pytest.fixture
def on_trials(monkeypatch):
    """Every fit takes its steps on the trials, few neurons at a time."""
    monkeypatch.setattr(memory, "LARGEST_STATISTICS", 0)
    monkeypatch.setattr(memory, "GROUP_ON_TRIALS", 0)


def split(planted):
    """Training, validation and test trials, half of the trials that are not for training each."""
    x, r = planted.x, planted.r
    return x[600:], r[600:], x[:300], r[:300], x[300:600], r[300:600]


def with_gaps(responses, share, seed):
    gaps = np.random.default_rng(seed).random(responses.shape) < share
    return np.where(gaps, np.float32(np.nan), responses)


@pytest.mark.parametrize("grid", [(3, 4), (1, 1), (4, 8)])
@pytest.mark.parametrize("output", ["elu", "linear"])
@pytest.mark.parametrize("refit", [True, False])
def test_both_ways_give_the_same(grid, output, refit, request):
    planted = plant(grid=grid, n_channels=20, n_neurons=17, noise=1.0, link="elu")
    *given, x, r = split(planted)
    settings = ALSSettings(max_components=16, output=output, refit=refit)
    expected = fit_readouts(*given, settings=settings)
    request.getfixturevalue("on_trials")
    found = fit_readouts(*given, settings=settings)
    scores = [variance_explained(r, fit.predict(x)) for fit in (expected, found)]
    np.testing.assert_allclose(scores[1], scores[0], atol=1e-5)
    np.testing.assert_allclose(found.predict(x), expected.predict(x), rtol=1e-3, atol=1e-3)
    if output == "elu":
        np.testing.assert_allclose(found.penalty, expected.penalty, rtol=1e-3)


@pytest.mark.parametrize("output", ["elu", "linear"])
def test_missing_responses_are_as_good_as_fewer_trials(output):
    planted = plant(n_trials=2200, n_channels=16, n_neurons=40, noise=1.0, link="elu")
    x, r, x_val, r_val, x_test, r_test = split(planted)
    settings = ALSSettings(max_components=16, output=output)

    def scored(*given):
        return variance_explained(r_test, fit_readouts(*given, settings=settings).predict(x_test))

    gaps = scored(x, with_gaps(r, 0.3, 1), x_val, with_gaps(r_val, 0.3, 2))
    n, n_val = 7 * len(x) // 10, 7 * len(x_val) // 10
    fewer = scored(x[:n], r[:n], x_val[:n_val], r_val[:n_val])
    every = scored(x, r, x_val, r_val)
    apart = gaps - fewer
    assert abs(apart.mean()) < 3 * apart.std() / len(apart) ** 0.5 + 0.002
    assert fewer.mean() - 0.005 < gaps.mean() < every.mean() + 0.002


def test_channels_on_own_trials_are_the_ridge_of_sklearn():
    planted = plant(noise=1.0, n_neurons=3)
    x, r = torch.from_numpy(planted.x), torch.from_numpy(with_gaps(planted.r, 0.3, 3))
    settings = ALSSettings(variance_kept=1.0, basis_images=10**6, scale_limit=1e9)
    components = principal_components(ArrayTokens(x), settings, device=torch.device("cpu"))
    tokens = ReducedTokens(ArrayTokens(x), components, keep=True)
    draw = torch.Generator().manual_seed(0)
    space = Factors(torch.rand(3, 3, generator=draw), torch.rand(3, 4, generator=draw), None)
    sums = PooledSums.of(tokens, space.space(), 8, own_trials(r, x.device), lambda some, _: r[some])
    penalty = 0.3
    found, _ = sums.normal(space).solve(torch.full((3,), penalty))
    z = torch.cat([part for _, _, part in tokens])
    for neuron in range(3):
        own = ~r[:, neuron].isnan()
        features = torch.einsum("nhwk,h,w->nk", z, space.row[neuron], space.column[neuron])[own]
        weight = float(space.space()[neuron].square().sum())
        ridge = Ridge(alpha=penalty * weight * int(own.sum())).fit(features, r[own, neuron])
        np.testing.assert_allclose(found[neuron], ridge.coef_, rtol=1e-3, atol=1e-5)


def test_a_neuron_that_is_missing_everywhere_costs_the_others_nothing():
    planted = plant(n_channels=16, noise=1.0, link="elu")
    x, r, x_val, r_val, x_test, _ = split(planted)
    r, r_val = r.copy(), r_val.copy()
    r[:, 3] = r_val[:, 3] = np.nan
    with pytest.warns(UserWarning, match=r"1 of 9 neurons have no response .*\(3\)"):
        fit = fit_readouts(x, r, x_val, r_val, settings=SMALL)
    others = np.delete(np.arange(9), 3)
    alone = fit_readouts(x, r[:, others], x_val, r_val[:, others], settings=SMALL)
    rates = fit.predict(x_test)
    np.testing.assert_allclose(rates[:, others], alone.predict(x_test), rtol=1e-4, atol=1e-5)
    assert rates[:, 3].std() < 1e-6


def test_neurons_with_hardly_any_trials_stay_in_the_range_of_their_responses():
    planted = plant(n_channels=16, noise=1.0, link="elu")
    x, r, x_val, r_val, x_test, _ = split(planted)
    gaps, gaps_val = r.copy(), r_val.copy()
    for neuron, kept in enumerate((1, 2, 5, 20)):
        gaps[kept:, neuron] = np.nan
    gaps_val[:, 4] = np.nan
    gaps_val[1:, 5] = np.nan
    with pytest.warns(UserWarning, match="hardly vary"):  # a single response has no deviation
        fit = fit_readouts(x, gaps, x_val, gaps_val, settings=SMALL)
    rates = fit.predict(x_test)
    assert np.isfinite(rates).all()
    assert (rates.max(axis=0) < 3 * r.max(axis=0)).all()


def test_negative_responses_are_fitted_and_predicted_by_linear_readouts():
    planted = plant(n_channels=16, noise=0.5)
    r = planted.r - planted.r.mean(axis=0)
    *given, x_test, r_test = split(type(planted)(planted.x, r, None, None, None))
    with pytest.raises(UserError, match=r'9 of 9 .* readout.als.output = "linear"'):
        fit_readouts(*given, settings=SMALL)
    fit = fit_readouts(*given, settings=ALSSettings(max_components=16, output="linear"))
    predicted = fit.predict(x_test)
    assert fit.output == "signed" and (predicted < 0).any(axis=0).all()
    assert (variance_explained(r_test, predicted) > 0.7).all()


def test_sizes_decide_the_way_whatever_memory_there_is():
    def size(rows, columns, **more):
        return FitSize(
            n_trials=5000, n_rows=rows, n_columns=columns, n_channels=384, n_neurons=600, **more
        )

    settings = ALSSettings()
    ways = {(4, 8): False, (16, 32): True, (32, 64): True}
    for (rows, columns), expected in ways.items():
        problem = problem_of(size(rows, columns), settings)
        assert problem.on_trials == expected
        for limit in (None, 10**11):
            assert plan_memory(problem, limit, used=0).batch == problem.batch
    assert problem_of(size(4, 8, incomplete=True), settings).on_trials
    # The price of a plan knows the way: seconds grow about as positions do, memory hardly.
    prices = [als_cost(size(*grid), settings, memory_limit=8 * 10**9) for grid in ways]
    seconds = [sum(price.shares.values()) for price in prices]
    assert 4 < seconds[1] / seconds[0] < 64 and 2 < seconds[2] / seconds[1] < 8
    assert all(price.memory <= 8 * 10**9 for price in prices)
    # Statistics of the finest grid would take 300 GB.
    finest = problem_of(size(32, 64), ALSSettings(max_components=128))
    assert finest.least_memory < 4 * 10**9 and finest.batch is not None


@pytest.mark.parametrize("keep", [True, False])
def test_a_fine_grid_keeps_to_the_limit(on_trials, monkeypatch, keep):
    """Tokens that the limit does not hold are read again, and give the same."""
    planted = plant(n_trials=700, grid=(12, 14), n_channels=16, n_neurons=9, noise=0.5)
    x, r = planted.x, planted.r
    given = (x[100:], r[100:], x[:100], r[:100])
    expected = fit_readouts(*given, settings=SMALL)
    size = FitSize(n_trials=700, n_rows=12, n_columns=14, n_channels=16, n_neurons=9)
    least = problem_of(size, SMALL).least_memory
    plans = []

    def plan(*arguments):
        plans.append(plan_memory(*arguments, used=10**9))
        return plans[-1]

    monkeypatch.setattr("stages.readouts.als.fit.plan_memory", plan)
    limit = 10**9 + least + keep * 10**8
    found = fit_readouts(*given, settings=SMALL, memory_limit=limit)
    assert [p.keep for p in plans] == [keep]
    np.testing.assert_array_equal(found.channel_weights, expected.channel_weights)
    with pytest.raises(UserError, match="12 x 14 grid"):
        fit_readouts(*given, settings=SMALL, memory_limit=10**9 + least // 2)


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_linear_output_is_fitted_again_to_all_trials_as_the_ridge_of_sklearn_is(share):
    planted = plant(noise=1.0, n_neurons=4)
    x, r, x_val, r_val, x_test, _ = split(planted)
    r, r_val = with_gaps(r, share, 1), with_gaps(r_val, share, 2)
    settings = ALSSettings(
        penalties=(0.03,), variance_kept=1.0, scale_limit=1e9, basis_images=10**6, output="linear"
    )
    fit = fit_readouts(x, r, x_val, r_val, settings=settings)
    first = fit.held_out
    for weights in ("row_weights", "column_weights"):
        own, before = (getattr(f, weights) for f in (fit, first))
        own, before = (w / np.linalg.norm(w, axis=1)[:, None] for w in (own, before))
        np.testing.assert_allclose(own, before, rtol=1e-4, atol=1e-6)
    variance = x.var(axis=0).mean(axis=(0, 1)).sum()
    for readouts, parts in ((fit, [(x, r), (x_val, r_val)]), (first, [(x, r)])):
        tokens, responses = (np.concatenate(both) for both in zip(*parts, strict=True))
        rates = readouts.predict(x_test)
        for m in range(4):
            space = np.outer(readouts.row_weights[m], readouts.column_weights[m])
            space /= np.linalg.norm(space)
            own = ~np.isnan(responses[:, m])
            ridge = Ridge(alpha=0.03 * variance * own.sum())
            ridge.fit(np.einsum("nhwk,hw->nk", tokens, space)[own], responses[own, m])
            expected = ridge.predict(np.einsum("nhwk,hw->nk", x_test, space))
            np.testing.assert_allclose(rates[:, m], expected.clip(min=0), rtol=1e-4, atol=1e-4)
