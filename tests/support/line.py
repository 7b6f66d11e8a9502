"""A network small enough to follow, for the training loop: y = w x + b."""

import numpy as np
import torch
from torch import nn

from stages.training.descent import Descent, Losses, Network, Phase
from stages.training.loop import LoopSettings, train


class Line(Network):
    """y = w x + b on a dozen trials, in two parts per batch; scores may be dictated."""

    n_trials, n_neurons = 12, 1

    def __init__(self, scores=None, *, dropout=0.0):
        torch.manual_seed(0)
        self.x = torch.linspace(-1, 1, self.n_trials)[:, None]
        self.y = 3 * self.x - 1
        self.module = nn.Sequential(nn.Dropout(dropout), nn.Linear(1, 1))
        self.scores = scores
        self.scored = 0
        self.seen = []

    def losses(self, rows):
        self.seen.append(rows.tolist())
        for part in np.array_split(rows, 2):
            loss = (self.module(self.x[part]) - self.y[part]).square().sum()
            yield Losses(loss, loss)

    def project(self):
        pass

    def score(self):
        self.scored += 1
        if self.scores is not None:
            return self.scores[self.scored - 1]
        with torch.no_grad():
            return -(self.module[1](self.x) - self.y).square().mean().item()


def settings(**changes):
    return LoopSettings(
        **{
            "batch_size": 5, "patience": 3, "start_counts": False, "what": "the line",
            "remedy": "lower something",
        } | changes
    )  # fmt: skip


def phase(learner, epochs, rate=0.1):
    return Phase(
        epochs=epochs,
        optimizer=lambda: torch.optim.AdamW(learner.module.parameters(), lr=rate),
        schedule=lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=10),
    )


def weights(learner):
    return [p.detach().clone() for p in learner.module.parameters()]


def descend(line, phases, loop, **options):
    return train(Descent(line, phases, loop), **options)
