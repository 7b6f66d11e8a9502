"""Corners of the default solver: sparse neurons, few images, constants that differ by position."""

from __future__ import annotations

import numpy as np
import pytest
from support.planted import plant

from stages.readouts.settings import ALSSettings
from stages.readouts.solvers import fit_readouts
from stages.scores import variance_explained

#: A rate may be so many times what its neuron ever showed.
MARGIN = 2


@pytest.fixture(scope="module")
def sparse():
    """Neurons that respond in 1, 3, 10, 20, 100 trials, anywhere or to a pattern."""
    draw = np.random.default_rng(3)
    n_trials, numbers = 4872, np.repeat([1, 3, 10, 20, 100], 8)
    shared = draw.standard_normal((n_trials, 1, 1, 24))
    x = (draw.standard_normal((n_trials, 3, 4, 24)) + shared).astype(np.float32)
    r = np.zeros((n_trials, len(numbers)), np.float32)
    for neuron, number in enumerate(numbers):
        drive = x[400:, 1, 1, neuron % 24] if neuron % 2 else draw.standard_normal(4472)
        chosen = 400 + np.argsort(drive)[-number:]
        r[chosen, neuron] = draw.exponential(size=number) + 0.5
    # Some respond during validation, too.
    r[:400, 1::2] = np.where(draw.uniform(size=(400, 20)) < numbers[1::2] / 4472, 1, 0)
    usual = plant(n_trials=n_trials, grid=(3, 4), n_channels=24, noise=1.0, link="elu")
    return x, np.hstack([r, usual.r]), numbers


@pytest.mark.parametrize("refit", [True, False])
@pytest.mark.filterwarnings("ignore:fit_readouts")
def test_sparse_neurons_are_predicted_in_the_range_of_their_responses(sparse, refit):
    x, r, numbers = sparse
    fit = fit_readouts(x[400:], r[400:], x[:400], r[:400], settings=ALSSettings(refit=refit))
    fresh = np.random.default_rng(9).standard_normal((1000, 1, 1, 24))
    fresh = (np.random.default_rng(8).standard_normal((1000, 3, 4, 24)) + fresh).astype(np.float32)
    of = slice(len(numbers))
    shown = r[:, of].max(axis=0)
    for readouts, trials in (
        (fit, slice(400 * (not refit), None)),
        (fit.held_out, slice(400, None)),
    ):
        rates = readouts.predict(x[trials])[:, of]
        ratio = rates.mean(axis=0) / r[trials, of].mean(axis=0)
        assert (ratio < 2).all() and (ratio > 0.5).all(), np.c_[numbers, ratio]
        for images in (x, fresh):
            highest = readouts.predict(images)[:, of].max(axis=0)
            assert (highest < MARGIN * shown).all(), np.c_[numbers, highest / shown]


@pytest.mark.parametrize("n_train", [50, 10, 2])
@pytest.mark.parametrize("output", ["elu", "linear"])
def test_few_images_are_no_worse_than_the_mean(n_train, output):
    planted = plant(n_trials=n_train + 500, grid=(3, 4), n_channels=24, n_neurons=40, noise=2.0)
    x, r = planted.x, planted.r
    train, val, test = slice(n_train), slice(n_train, n_train + 100), slice(n_train + 100, None)
    fit = fit_readouts(
        x[train], r[train], x[val], r[val], settings=ALSSettings(output=output, refit=False)
    )
    for part, worst in ((val, 0.2), (test, 0.2)):
        mean = np.broadcast_to(r[train].mean(axis=0), r[part].shape)
        loss = variance_explained(r[part], mean) - variance_explained(r[part], fit.predict(x[part]))
        assert loss.max() < worst and loss.mean() < 0.01


@pytest.mark.parametrize("size", [3, 30])
def test_constants_that_differ_by_position_change_nothing(size):
    planted = plant(n_trials=900, noise=1.5, link="elu", n_channels=24)
    x_train, r_train, x_val, r_val = planted.split(200)
    constant = size * np.random.default_rng(0).standard_normal((1, 3, 4, 24)).astype(np.float32)
    settings = ALSSettings(max_components=12)
    scores = [
        variance_explained(
            r_val,
            fit_readouts(
                x_train + more, r_train, x_val + more, r_val, settings=settings
            ).held_out.predict(x_val + more),
        )
        for more in (0, constant)
    ]
    np.testing.assert_allclose(scores[1], scores[0], atol=2e-3)
