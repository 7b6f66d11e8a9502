"""The joint AdamW protocol against the same written plainly: the same numbers, bit for bit."""

import numpy as np
import pytest
import torch
from support.planted import plant

from stages.readouts.adamw import fit_adamw
from stages.readouts.data import fit_data
from stages.readouts.readout import initial_readout, poisson_loss, rate
from stages.readouts.settings import AdamWSettings
from stages.scores import variance_explained


def plainly(data, x, x_validation, settings):
    """The protocol as it is described; the best epoch's weights, and the learning curve."""
    readout = initial_readout(
        data.neurons, x.shape[1:], seed=data.seed, space_scale=0.01, channel_scale=0.01
    )
    optimizer = torch.optim.AdamW(
        [
            {"params": [readout.row_weights, readout.column_weights], "weight_decay": 1.0},
            {"params": [readout.channel_weights], "weight_decay": 0.1},
            {"params": [readout.bias], "weight_decay": 0.0},
        ],
        lr=settings.learning_rate,
    )
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode="max", factor=0.5, patience=settings.patience,
        min_lr=settings.minimum_learning_rate,
    )  # fmt: skip
    orders = np.random.default_rng(data.seed)
    best, best_score, curve = None, -np.inf, []
    for number in range(settings.max_epochs):
        total, order = torch.zeros(()), orders.permutation(len(x))
        for first in range(0, len(x), settings.batch_size):
            rows = torch.from_numpy(order[first : first + settings.batch_size])
            losses = poisson_loss(readout(x[rows]), data.r_train[rows]).sum(dim=0)
            optimizer.zero_grad()
            (losses + 0.1 * readout.squared_norms()).mean().backward()
            torch.nn.utils.clip_grad_norm_(readout.parameters(), 1.0)
            optimizer.step()
            readout.project()
            total += losses.detach().sum()
        with torch.no_grad():
            rates = rate(readout(x_validation)).numpy()
        score = float(np.nanmean(variance_explained(data.r_validation.numpy(), rates)))
        curve.append((number, total.item() / data.r_train.numel(), score))
        if score > best_score:
            best_score = score
            best = {name: p.detach().numpy().copy() for name, p in readout.named_parameters()}
        schedule.step(score)
        if optimizer.param_groups[0]["lr"] <= settings.minimum_learning_rate:
            break
    return best, curve


@pytest.mark.parametrize(
    "settings",
    [
        AdamWSettings(learning_rate=0.02, max_epochs=12),
        AdamWSettings(learning_rate=0.2, patience=1, minimum_learning_rate=0.01, batch_size=32),
    ],
)
def test_the_published_protocol(settings):
    x_train, r_train, x_val, r_val = plant(n_trials=300, noise=0.5, link="elu").split(100)
    data, _ = fit_data(x_train, r_train, x_val, r_val, seed=3)
    x, x_validation = (torch.from_numpy(np.asarray(t, np.float32)) for t in (x_train, x_val))
    weights, curve = plainly(data, x, x_validation, settings)
    fitted = fit_adamw(data, settings)
    assert [tuple(epoch) for epoch in fitted.curve] == curve
    assert len(curve) == 12 or len(curve) < settings.max_epochs
    for name, expected in weights.items():
        np.testing.assert_array_equal(getattr(fitted, name), expected)
