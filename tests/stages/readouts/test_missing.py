"""Missing responses wherever a Poisson loss is minimised: they cost nothing and pull nowhere."""

from __future__ import annotations

import numpy as np
import torch
from support.planted import plant

from stages.readouts.readout import poisson_loss
from stages.readouts.settings import AdamWSettings
from stages.readouts.solvers import fit_readouts
from stages.scores import correlation, variance_explained


def test_the_loss_of_a_missing_response_is_zero_and_flat():
    z = torch.tensor([[-2.0, 0.0, 3.0]], requires_grad=True)
    responses = torch.tensor([[1.0, torch.nan, torch.nan]])
    loss = poisson_loss(z, responses)
    loss.sum().backward()
    whole = poisson_loss(z.detach(), responses.nan_to_num())
    assert loss.tolist() == [[whole[0, 0].item(), 0, 0]]
    assert z.grad[0, 0] != 0 and (z.grad[0, 1:] == 0).all()


def test_adamw_fits_each_neuron_to_its_own_trials():
    """Trials that one half of the neurons miss are as if they were not there for it."""
    planted = plant(n_trials=200, grid=(2, 2), n_neurons=4, n_channels=3, noise=0.3, link="elu")
    x, r, x_val, r_val = planted.split(60)
    settings = AdamWSettings(max_epochs=2, clip_norm=None, batch_size=1000, learning_rate=0.01)
    gaps = r.copy()
    gaps[100:, :2] = np.nan
    gaps_val = r_val.copy()
    gaps_val[::2, 1] = np.nan
    found = fit_readouts(x, gaps, x_val, gaps_val, solver="adamw", settings=settings)
    # With one batch of all trials, those left out change nothing but the order of a sum.
    few = fit_readouts(x[:100], r[:100, :2], x_val, r_val[:, :2], solver="adamw", settings=settings)
    every = fit_readouts(x, r, x_val, r_val, solver="adamw", settings=settings)
    np.testing.assert_allclose(found.scale[:2], few.scale, rtol=1e-6)
    loss = {"few": few.curve[0].training_loss, "found": found.curve[0].training_loss}
    assert np.isfinite(loss["found"]) and abs(loss["found"] - loss["few"]) < 0.1
    np.testing.assert_allclose(found.channel_weights[2:], every.channel_weights[2:], atol=2e-3)
    np.testing.assert_allclose(found.channel_weights[:2], few.channel_weights, atol=2e-3)


def test_scores_are_those_of_each_neurons_own_trials():
    draw = np.random.default_rng(0)
    r, p = draw.random((50, 4)), draw.random((50, 4))
    gaps = r.copy()
    gaps[:20, 1] = np.nan
    gaps[:, 2] = np.nan
    gaps[1:, 3] = np.nan
    for scored in (variance_explained, correlation):
        found = scored(gaps, p)
        assert found[0] == scored(r, p)[0]
        np.testing.assert_allclose(found[1], scored(r[20:], p[20:])[1])
        assert np.isnan(found[2:]).all()
