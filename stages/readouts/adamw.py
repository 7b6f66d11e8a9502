"""AdamW on all neurons' readouts together: the joint protocol of the published numbers.

One gradient clip, one learning-rate schedule and one early stop couple the neurons: with the
defaults a neuron's result depends, a little, on which others are fitted beside it. With
`clip_norm` absent and a fixed number of epochs it does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.optim.lr_scheduler import ReduceLROnPlateau

from stages.executors.reports import report
from stages.readouts.data import FitData
from stages.readouts.readout import (
    Readout,
    Readouts,
    initial_readout,
    poisson_loss,
    predicted_at_once,
    rate,
)
from stages.readouts.sizes import VALIDATION_BATCH
from stages.readouts.solver_protocol import OnEpoch
from stages.readouts.solver_settings import AdamWSettings
from stages.scores import mean_score
from stages.tokens.balance import channel_scale
from stages.tokens.random_access import in_any_order
from stages.training.descent import Descent, Losses, Network, Phase
from stages.training.epoch import Epoch
from stages.training.loop import LoopSettings, batches, train


def fit_adamw(
    data: FitData, settings: AdamWSettings, *, progress: OnEpoch | None = None
) -> Readouts:
    """Fit by the published protocol; the epoch of the best mean validation score is kept.

    The loss is the Poisson loss summed over the batch plus `penalty` times the squared weights,
    averaged over neurons. The learning rate is multiplied by `factor` after `patience` epochs
    without a better validation score.

    Raises
    ------
    FloatingPointError
        The training loss is not finite; the message names the epoch.
    MemoryError
        Memory ran out; the message names what to lower.
    """
    readout = initial_readout(
        data.neurons,
        data.x_train.shape[1:],
        seed=data.seed,
        space_scale=settings.initial_scale,
        channel_scale=settings.initial_scale,
    ).to(data.device)
    space = [readout.row_weights, readout.column_weights]
    groups = [
        {"params": space, "weight_decay": settings.space_decay},
        {"params": [readout.channel_weights], "weight_decay": settings.channel_decay},
        {"params": [readout.bias], "weight_decay": 0.0},
    ]
    phase = Phase(
        epochs=settings.max_epochs,
        optimizer=partial(torch.optim.AdamW, groups, lr=settings.learning_rate),
        schedule=partial(
            ReduceLROnPlateau,
            mode="max",
            factor=settings.factor,
            patience=settings.patience,
            min_lr=settings.minimum_learning_rate,
        ),
        final_rate=settings.minimum_learning_rate,
    )
    loop = LoopSettings(
        batch_size=settings.batch_size,
        patience=settings.max_epochs,  # the learning rate ends the training
        start_counts=False,
        clip_norm=settings.clip_norm,
        seed=data.seed,
        what="readout.solver = adamw",
        remedy="lower readout.adamw.batch_size, or choose fewer recording.neurons",
        slower="lower readout.adamw.learning_rate",
    )
    network = _ReadoutsWithData(readout, data, settings.penalty)

    def on_epoch(epoch: Epoch) -> None:
        report(epoch.epoch + 1, settings.max_epochs, epoch.told(settings.max_epochs))
        if progress is not None:
            progress(epoch)

    report(0, settings.max_epochs, "begins")
    trained = train(Descent(network, [phase], loop), progress=on_epoch)
    weights: dict[str, Any] = {
        name: p.detach().cpu().numpy() for name, p in readout.named_parameters()
    }
    if network.channel_scale is not None:
        weights["channel_weights"] /= network.channel_scale.cpu().numpy()
    return Readouts(**weights, scale=np.ones_like(weights["bias"]), curve=trained.curve)


class _ReadoutsWithData(Network):
    """Readouts of a population with the trials of a fit."""

    module: Readout

    def __init__(self, readout: Readout, data: FitData, penalty: float) -> None:
        self.module = readout
        self.data = data
        self.penalty = penalty
        self.x_train = in_any_order(data.x_train)
        self.x_validation = in_any_order(data.x_validation)
        scale = channel_scale(data.x_train, data.sources)
        self.channel_scale = None if scale is None else scale.to(data.device)
        self.n_trials, self.n_neurons = data.r_train.shape
        self._n_missing = int(data.r_train.isnan().sum())
        self._orders = np.random.default_rng(data.seed)

    @property
    def n_responses(self) -> int:
        """Responses to the training trials that are not missing."""
        return self.n_trials * self.n_neurons - self._n_missing

    def losses(self, rows: NDArray[np.int64]) -> Iterator[Losses]:
        tokens = self._scaled(self.x_train.take(rows))
        responses = self.data.r_train[torch.from_numpy(rows)].to(self.data.device)
        poisson = poisson_loss(self.module(tokens), responses).sum(dim=0)
        objective = (poisson + self.penalty * self.module.squared_norms()).mean()
        yield Losses(objective, poisson.sum())

    @torch.inference_mode()
    def score(self) -> float:
        n_trials, rows, columns, _ = self.data.x_validation.shape
        step = min(VALIDATION_BATCH, predicted_at_once(rows, columns, self.n_neurons))
        rates = []
        for trials in batches(np.arange(n_trials), step):
            tokens = self._scaled(self.x_validation.take(trials))
            rates.append(rate(self.module(tokens)).cpu())
        return mean_score(self.data.r_validation.numpy(), torch.cat(rates).numpy())

    def _scaled(self, tokens: torch.Tensor) -> torch.Tensor:
        x = tokens.to(self.data.device, torch.float32)
        return x if self.channel_scale is None else x / self.channel_scale

    def project(self) -> None:
        self.module.project()

    def order(self, *, seed: int, epoch: int) -> NDArray[np.int64]:
        """The next order that one generator draws, epoch after epoch: there are no checkpoints."""
        return self._orders.permutation(self.n_trials)

    def total(self, losses: torch.Tensor) -> float:
        """The sum in single precision, batch after batch, as published curves have it."""
        return float(sum(losses))
