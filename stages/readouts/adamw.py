"""The joint protocol of the published numbers: AdamW on all neurons' readouts together.

One gradient clip, one learning-rate schedule and one early stop couple the neurons: with the
defaults a neuron's result depends, a little, on which others are fitted beside it. With
`clip_norm` absent and a fixed number of epochs it does not.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from stages.readouts.data import FitData
from stages.readouts.readout import (
    PREDICT_ELEMENTS,
    Epoch,
    Readout,
    Readouts,
    initial_readout,
    poisson_loss,
    predicted_at_once,
    rate,
)
from stages.readouts.settings import AdamWSettings
from stages.scores import variance_explained
from stages.tokens.random_access import Rows, in_any_order

#: Validation trials whose predictions are computed at a time, at most.
VALIDATION_BATCH = 512


def fit_adamw(
    data: FitData, settings: AdamWSettings, *, progress: Callable[[Epoch], None] | None = None
) -> Readouts:
    """Fit by the published protocol; the epoch of the best mean validation score is kept.

    The loss is the Poisson loss summed over the batch plus `penalty` times the squared weights,
    averaged over neurons. The learning rate is multiplied by `factor` after `patience` epochs
    without a better validation score.

    Parameters
    ----------
    progress : callable, optional
        Called after every epoch.

    Returns
    -------
    Readouts
        With scale 1: rates in units of the normalised responses.

    Raises
    ------
    FloatingPointError
        The training loss is not finite; the message names the epoch.
    """
    x_train, x_validation = in_any_order(data.x_train), in_any_order(data.x_validation)
    readout = initial_readout(
        data.neurons,
        data.x_train.shape[1:],
        seed=data.seed,
        space_scale=settings.initial_scale,
        channel_scale=settings.initial_scale,
    ).to(data.device)
    optimizer = torch.optim.AdamW(
        [
            {
                "params": [readout.row_weights, readout.column_weights],
                "weight_decay": settings.space_decay,
            },
            {"params": [readout.channel_weights], "weight_decay": settings.channel_decay},
            {"params": [readout.bias], "weight_decay": 0.0},
        ],
        lr=settings.learning_rate,
    )
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer,
        mode="max",
        factor=settings.factor,
        patience=settings.patience,
        min_lr=settings.minimum_learning_rate,
    )
    order = np.random.default_rng(data.seed)
    best = _copy(readout)
    best_score = -np.inf
    curve: list[Epoch] = []
    for number in range(settings.max_epochs):
        loss = _train_epoch(readout, optimizer, x_train, data, settings, order)
        if not np.isfinite(loss):
            raise FloatingPointError(
                f"readout.solver = adamw: the training loss is {loss} in epoch {number}; lower "
                "readout.adamw.learning_rate"
            )
        epoch = Epoch(number, loss, _validation_score(readout, x_validation, data))
        curve.append(epoch)
        if epoch.validation_score > best_score:
            best_score, best = epoch.validation_score, _copy(readout)
        if progress is not None:
            progress(epoch)
        schedule.step(epoch.validation_score)
        if optimizer.param_groups[0]["lr"] <= settings.minimum_learning_rate:
            break
    row, column, channel, bias = best
    return Readouts(
        row_weights=row,
        column_weights=column,
        channel_weights=channel,
        bias=bias,
        scale=np.ones_like(bias),
        curve=curve,
    )


def descent_memory(grid: tuple[int, int, int], n_neurons: int, batch_size: int) -> int:
    """Bytes that a fit takes at least, beside tokens, responses and what the process held before.

    Parameters
    ----------
    grid : tuple of int
        Rows, columns and channels.
    """
    rows, columns, channels = grid
    trained = batch_size * rows * columns * n_neurons
    predicted = min(PREDICT_ELEMENTS, VALIDATION_BATCH * rows * columns * n_neurons)
    # Weights, their gradients, two moments, and the best copy.
    weights = 5 * n_neurons * (rows + columns + channels + 1)
    return 4 * (4 * max(trained, predicted) + weights)


def _train_epoch(
    readout: Readout,
    optimizer: torch.optim.Optimizer,
    x_train: Rows,
    data: FitData,
    settings: AdamWSettings,
    order: np.random.Generator,
) -> float:
    """One pass over the training trials; the mean Poisson loss per trial and neuron."""
    n_trials, n_neurons = data.r_train.shape
    shuffled = order.permutation(n_trials)
    total = torch.zeros((), device=data.device)
    for first in range(0, n_trials, settings.batch_size):
        rows = shuffled[first : first + settings.batch_size]
        tokens = x_train.take(rows).to(data.device, torch.float32)
        responses = data.r_train[torch.from_numpy(rows)].to(data.device)
        losses = poisson_loss(readout(tokens), responses).sum(dim=0)
        objective = (losses + settings.penalty * readout.squared_norms()).mean()
        optimizer.zero_grad(set_to_none=True)
        objective.backward()
        if settings.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(readout.parameters(), settings.clip_norm)
        optimizer.step()
        readout.project()
        total += losses.detach().sum()
    return total.item() / (n_trials * n_neurons)


@torch.inference_mode()
def _validation_score(readout: Readout, x_validation: Rows, data: FitData) -> float:
    """Mean variance explained on the validation trials, over neurons that vary there."""
    n_trials, rows, columns, _ = data.x_validation.shape
    step = min(VALIDATION_BATCH, predicted_at_once(rows, columns, len(readout.bias)))
    rates = []
    for first in range(0, n_trials, step):
        tokens = x_validation.take(np.arange(first, min(n_trials, first + step)))
        rates.append(rate(readout(tokens.to(data.device, torch.float32))).cpu())
    explained = variance_explained(data.r_validation.numpy(), torch.cat(rates).numpy())
    return float(np.nanmean(explained)) if np.isfinite(explained).any() else -np.inf


def _copy(readout: Readout) -> list[NDArray[np.float32]]:
    weights = (
        readout.row_weights,
        readout.column_weights,
        readout.channel_weights,
        readout.bias,
    )
    return [w.detach().cpu().numpy().copy() for w in weights]
