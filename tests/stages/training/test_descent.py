"""Gradient descent on a network small enough to follow: phases, best epoch, early stop."""

import itertools
from functools import partial

import pytest
import torch
from support.line import Line, descend, phase, settings, weights
from torch.optim.lr_scheduler import ReduceLROnPlateau

from stages.training.descent import Phase


def test_training_fits_and_every_trial_is_seen_once_per_epoch():
    learner = Line()
    trained = descend(learner, [phase(learner, 60, rate=0.3)], settings(patience=60))
    assert trained.curve[-1].training_loss < 0.05 * trained.curve[0].training_loss
    assert [len(rows) for rows in learner.seen[:3]] == [5, 5, 2]
    assert sorted(itertools.chain(*learner.seen[:3])) == list(range(12))
    assert learner.seen[:3] != learner.seen[3:6]


def test_the_best_epoch_is_kept_and_patience_ends_the_phase():
    learner = Line(scores=[0.1, 0.5, 0.3, 0.2, 0.1, 0.9])
    kept = []
    trained = descend(
        learner,
        [phase(learner, 10)],
        settings(),
        progress=lambda _: kept.append(weights(learner)),
    )
    assert [e.validation_score for e in trained.curve] == [0.1, 0.5, 0.3, 0.2, 0.1]
    assert all(torch.equal(a, b) for a, b in zip(weights(learner), kept[1], strict=True))


def test_patience_counts_on_in_the_next_phase():
    learner = Line(scores=[0.5, 0.1, 0.1, 0.1, 0.2, 0.6, 0.1, 0.1, 0.1])
    trained = descend(learner, [phase(learner, 9) for _ in range(3)], settings())
    # The second phase ends at its first epoch without a new best; the third has one at once.
    assert len(trained.curve) == 4 + 1 + 4


def test_each_phase_starts_from_the_best_weights():
    learner = Line(scores=[0.5, 0.1, 0.1, 0.9])
    kept = []
    descend(
        learner, [phase(learner, 3), phase(learner, 1, rate=0.0)], settings(patience=9),
        progress=lambda _: kept.append(weights(learner)),
    )  # fmt: skip
    assert all(torch.equal(a, b) for a, b in zip(weights(learner), kept[0], strict=True))


def test_a_plateau_of_the_score_lowers_the_rate_and_the_last_rate_ends_the_phase():
    line = Line(scores=[0.1, 0.2, 0.2, 0.3, 0.3, 0.3, 0.9])
    plateau = partial(ReduceLROnPlateau, mode="max", factor=0.5, patience=0, min_lr=0.02)
    optimizer = partial(torch.optim.SGD, line.module.parameters(), lr=0.1)
    only = Phase(epochs=9, optimizer=optimizer, schedule=plateau, final_rate=0.02)
    trained = descend(line, [only], settings(patience=9))
    # 0.1, 0.05 after the third epoch, 0.025 after the fifth, 0.02 after the sixth.
    assert len(trained.curve) == 6


@pytest.mark.parametrize("counts", [True, False])
def test_the_start_may_be_the_best_only_where_it_counts(counts):
    learner = Line(scores=[0.9, 0.1] if counts else [0.1])
    before = weights(learner)
    descend(learner, [phase(learner, 1)], settings(start_counts=counts))
    assert torch.equal(weights(learner)[0], before[0]) == counts
