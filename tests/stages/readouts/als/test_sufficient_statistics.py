"""Streamed sufficient statistics against sums over whole arrays."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cache import UserError
from stages.readouts.als.alternating import position_grams
from stages.readouts.als.pca import ReducedTokens, principal_components, shard_moments
from stages.readouts.als.sufficient_statistics import pairs, sum_products, sum_trials
from stages.readouts.settings import ALSSettings
from stages.tokens import tokens as data_module
from stages.tokens.tokens import ArrayTokens, partitions

CPU = torch.device("cpu")


def drawn(n_trials=60, grid=(2, 3), n_channels=5, n_neurons=4, seed=0, offset=3.0):
    draw = np.random.default_rng(seed)
    mixing = draw.standard_normal((n_channels, n_channels))
    x = draw.standard_normal((n_trials, *grid, n_channels)) @ mixing + offset
    r = draw.exponential(size=(n_trials, n_neurons))
    return torch.from_numpy(x.astype(np.float32)), torch.from_numpy(r.astype(np.float32))


def reduced(x, *, n_components=4, keep=True, **options):
    settings = ALSSettings(
        **{"variance_kept": 1.0, "max_components": n_components, "basis_images": 10**6,
           "scale_limit": 1e9} | options,
    )  # fmt: skip
    components = principal_components(ArrayTokens(x), settings, device=CPU)
    return ReducedTokens(ArrayTokens(x), components, keep=keep)


def dense(tokens, r):
    """Covariances in float64: (features, features), (neurons, features)."""
    z = torch.cat([part for _, _, part in tokens]).double().flatten(1).numpy()
    z, r = z - z.mean(axis=0), r.double().numpy() - r.double().numpy().mean(axis=0)
    return z.T @ z / len(z), r.T @ z / len(z)


def summed(tokens, r):
    return sum_trials(tokens, r).statistics(sum_products(tokens))


def quadratic(gram, row, column, channel):
    """w'Gw from pair statistics."""
    products = [v[i] * v[j] for v in (row, column, channel) for i, j in [pairs(len(v))]]
    same = [i == j for v in (row, column, channel) for i, j in [pairs(len(v))]]
    # Components were not summed over both orders.
    channel_pairs = products[2] * torch.where(same[2], 1.0, 2.0)
    return torch.einsum("rck,r,c,k->", gram, products[0], products[1], channel_pairs)


@pytest.mark.parametrize("grid", [(2, 3), (4, 1), (1, 1)])
def test_pairs_give_the_quadratic_form_of_separable_weights(grid):
    x, r = drawn(grid=grid)
    tokens = reduced(x)
    statistics = summed(tokens, r)
    gram, cross = dense(tokens, r)
    draw = torch.Generator().manual_seed(0)
    factors = [torch.randn(n, generator=draw) for n in (*grid, 4)]
    w = torch.einsum("h,w,k->hwk", *factors).flatten().double().numpy()
    assert float(quadratic(statistics.gram, *factors)) == pytest.approx(w @ gram @ w, rel=1e-4)
    np.testing.assert_allclose(statistics.cross.flatten(1), cross, atol=1e-5)


@given(n_trials=st.integers(9, 70), size=st.integers(1, 2000), seed=st.integers(0, 99))
def test_any_parts_give_the_same_statistics(n_trials, size, seed):
    x, r = drawn(n_trials=n_trials, seed=seed)
    with pytest.MonkeyPatch.context() as patch:
        components = reduced(x).components
        whole, in_parts = [], []
        for keep, found in ((True, whole), (False, in_parts)):
            tokens = ReducedTokens(ArrayTokens(x), components, keep=keep)
            products = sum_products(tokens)
            found += [products, *vars(sum_trials(tokens, r).statistics(products)).values()]
            patch.setattr(data_module, "PARTITION_ELEMENTS", size)
    for expected, found in zip(whole, in_parts, strict=True):
        scale = max(1.0, float(expected.abs().max()))  # means are about 0
        np.testing.assert_allclose(found, expected, atol=2e-6 * scale)


def test_parts_cover_all_trials_once():
    parts = list(partitions((1000, 8, 16, 768)))
    assert len(parts) > 5 and parts[0][0] == 0 and parts[-1][1] == 1000
    assert all(before[1] == after[0] for before, after in itertools.pairwise(parts))


@pytest.mark.parametrize("rows_at_once", [1, 2, 100])
@pytest.mark.parametrize("keep", [True, False])
def test_memory_saving_passes_give_identical_sums(rows_at_once, keep):
    x, _ = drawn()
    expected = sum_products(reduced(x))
    assert torch.equal(sum_products(reduced(x, keep=keep), rows_at_once=rows_at_once), expected)


def test_float32_sums_are_as_good_as_float64_far_from_zero():
    """Tokens far from zero: their squares are 10^4 times their variance."""
    x, r = drawn(n_trials=5000, offset=100.0)
    tokens = reduced(x)
    statistics = summed(tokens, r)
    gram, cross = dense(tokens, r)
    h, w, k = 2, 3, 4
    expected = gram.reshape(h * w, k, h * w, k)[np.arange(h * w), :, np.arange(h * w)]
    found = position_grams(statistics.gram, (h, w, k)).flatten(0, 1).numpy()
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()
    assert np.abs(statistics.cross.flatten(1).numpy() - cross).max() < 1e-5 * np.abs(cross).max()


def test_channel_moments_equal_numpy():
    x, _ = drawn(n_trials=500, offset=50.0)
    moments = shard_moments(ArrayTokens(x), (0, 500), max_images=10**6, device=CPU)
    mean = x.double().mean(dim=0)
    np.testing.assert_allclose(moments.mean, mean, rtol=1e-6)
    flat = (x.double() - mean).reshape(-1, 5).numpy()
    np.testing.assert_allclose(moments.covariance, flat.T @ flat / len(flat), rtol=1e-4, atol=1e-4)
    parts = [
        shard_moments(ArrayTokens(x), ends, max_images=10**6, device=CPU)
        for ends in ((0, 120), (120, 500))
    ]
    np.testing.assert_allclose(
        (parts[0] + parts[1]).covariance, moments.covariance, rtol=1e-5, atol=1e-5
    )


def test_channel_moments_read_evenly_spread_trials():
    x, _ = drawn(n_trials=100)
    moments = shard_moments(ArrayTokens(x), (0, 100), max_images=40, device=CPU)
    expected = x[::3].double().mean(dim=0)
    np.testing.assert_allclose(moments.mean, expected, rtol=1e-5)


def test_components_keep_the_wanted_variance():
    x, _ = drawn(n_trials=300)
    tokens = reduced(x, n_components=5)
    variances = tokens.components.variances
    assert (variances.diff() <= 0).all()
    share = variances.cumsum(0) / variances.sum()
    kept = reduced(x, n_components=5, variance_kept=float(share[2]) - 1e-4).components
    assert kept.n_components == 3
    z = torch.cat([part for _, _, part in tokens]).reshape(-1, 5).double()
    np.testing.assert_allclose(np.cov(z.T, ddof=0), np.diag(variances), atol=1e-3)


def test_expanded_weights_predict_what_reduced_ones_do():
    x, _ = drawn()
    tokens = reduced(x, scale_limit=1.0)
    components = tokens.components
    assert (components.scale > 1).any()
    weights = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    direct = (x - components.mean) @ components.expand(weights).T
    z = torch.cat([part for _, _, part in tokens])
    np.testing.assert_allclose(direct, z @ weights.T, atol=1e-4)


def test_an_outstanding_channel_does_not_take_all_components():
    x, _ = drawn(n_trials=300)
    x[..., 2] *= 1000
    taken = reduced(x, variance_kept=0.99, n_components=5, scale_limit=1e9).components
    assert taken.n_components == 1
    assert (
        reduced(x, variance_kept=0.99, n_components=5, scale_limit=5.0).components.n_components > 1
    )


def test_tokens_that_are_not_finite_are_refused():
    x, _ = drawn()
    components = reduced(x).components
    x[7, 0, 1, 2] = torch.inf
    with pytest.raises(UserError, match="float32"):
        sum_products(ReducedTokens(ArrayTokens(x), components, keep=True))
