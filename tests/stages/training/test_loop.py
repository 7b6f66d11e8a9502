"""The training loop on a model small enough to follow: phases, early stop, exact resumption."""

import io
import itertools
import multiprocessing
import os
import signal
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from cache import UserError
from stages.training.checkpoints import Checkpoint
from stages.training.loop import LoopSettings, Losses, Phase, train


class Line:
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


def test_training_fits_and_every_trial_is_seen_once_per_epoch():
    learner = Line()
    trained = train(learner, [phase(learner, 60, rate=0.3)], settings(patience=60))
    assert trained.curve[-1].training_loss < 0.05 * trained.curve[0].training_loss
    assert [len(rows) for rows in learner.seen[:3]] == [5, 5, 2]
    assert sorted(itertools.chain(*learner.seen[:3])) == list(range(12))
    assert learner.seen[:3] != learner.seen[3:6]


def test_the_best_epoch_is_kept_and_patience_ends_the_phase():
    learner = Line(scores=[0.1, 0.5, 0.3, 0.2, 0.1, 0.9])
    kept = []
    trained = train(
        learner, [phase(learner, 10)], settings(), progress=lambda _: kept.append(weights(learner))
    )
    assert [e.validation_score for e in trained.curve] == [0.1, 0.5, 0.3, 0.2, 0.1]
    assert all(torch.equal(a, b) for a, b in zip(weights(learner), kept[1], strict=True))


def test_patience_counts_on_in_the_next_phase():
    learner = Line(scores=[0.5, 0.1, 0.1, 0.1, 0.2, 0.6, 0.1, 0.1, 0.1])
    trained = train(learner, [phase(learner, 9) for _ in range(3)], settings())
    # The second phase ends at its first epoch without a new best; the third has one at once.
    assert len(trained.curve) == 4 + 1 + 4


def test_each_phase_starts_from_the_best_weights():
    learner = Line(scores=[0.5, 0.1, 0.1, 0.9])
    kept = []
    train(
        learner, [phase(learner, 3), phase(learner, 1, rate=0.0)], settings(patience=9),
        progress=lambda _: kept.append(weights(learner)),
    )  # fmt: skip
    assert all(torch.equal(a, b) for a, b in zip(weights(learner), kept[0], strict=True))


@pytest.mark.parametrize("counts", [True, False])
def test_the_start_may_be_the_best_only_where_it_counts(counts):
    learner = Line(scores=[0.9, 0.1] if counts else [0.1])
    before = weights(learner)
    train(learner, [phase(learner, 1)], settings(start_counts=counts))
    assert torch.equal(weights(learner)[0], before[0]) == counts


@pytest.mark.parametrize("at", [0, 2, 3, 5])
def test_an_interrupted_run_ends_with_the_same_weights(tmp_path, at):
    """Dropout draws random numbers in every batch, so that the generators matter too."""

    def learner():
        return Line(dropout=0.3)

    def phases(line):
        return [phase(line, 4), phase(line, 3, rate=0.03)]

    whole = learner()
    first = train(whole, phases(whole), settings())
    checkpoint = Checkpoint(tmp_path / "abc.pt", "abc")

    def stop(epoch):
        if epoch.epoch == at:
            raise KeyboardInterrupt

    line = learner()
    with pytest.raises(KeyboardInterrupt):
        train(line, phases(line), settings(), checkpoint=checkpoint, progress=stop)
    torch.randn(7)  # whatever was drawn in between
    line = learner()
    second = train(line, phases(line), settings(), checkpoint=checkpoint)
    assert second.curve == first.curve and len(first.curve) > 5
    assert all(torch.equal(a, b) for a, b in zip(weights(line), weights(whole), strict=True))


def test_an_interruption_inside_an_epoch_repeats_it(tmp_path):
    whole = Line()
    train(whole, [phase(whole, 5)], settings())
    checkpoint = Checkpoint(tmp_path / "abc.pt", "abc")
    line = Line()
    line.project = iter_raising(7)
    with pytest.raises(KeyboardInterrupt):
        train(line, [phase(line, 5)], settings(), checkpoint=checkpoint)
    line = Line()
    train(line, [phase(line, 5)], settings(), checkpoint=checkpoint)
    assert all(torch.equal(a, b) for a, b in zip(weights(line), weights(whole), strict=True))


def iter_raising(calls):
    left = iter(range(calls))

    def call():
        if next(left, None) is None:
            raise KeyboardInterrupt

    return call


def train_until_killed(path, moment):
    """What a child does: die after the second epoch, or while it writes that epoch's checkpoint."""
    kill = partial(os.kill, os.getpid(), signal.SIGKILL)

    save = torch.save

    def half(content, file):
        if line.scored == 2:
            whole = io.BytesIO()
            save(content, whole)
            file.write(whole.getvalue()[: len(whole.getvalue()) // 2])
            file.flush()
            kill()
        save(content, file)

    if moment == "while writing":
        torch.save = half
    line = Line(dropout=0.3)
    after = (lambda epoch: epoch.epoch and kill()) if moment == "after" else None
    train(line, [phase(line, 5)], settings(), checkpoint=Checkpoint(path, "abc"), progress=after)


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork"
)
@pytest.mark.parametrize(("moment", "kept"), [("after", 2), ("while writing", 1)])
def test_a_killed_process_goes_on_to_the_same_weights(tmp_path, moment, kept):
    whole = Line(dropout=0.3)
    train(whole, [phase(whole, 5)], settings())
    checkpoint = Checkpoint(tmp_path / "abc.pt", "abc")
    fork = multiprocessing.get_context("fork")
    child = fork.Process(target=train_until_killed, args=(checkpoint.path, moment))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL and len(checkpoint.load().curve) == kept
    line = Line(dropout=0.3)
    train(line, [phase(line, 5)], settings(), checkpoint=checkpoint)
    assert all(torch.equal(a, b) for a, b in zip(weights(line), weights(whole), strict=True))
    assert len(list(tmp_path.iterdir())) == (2 if moment == "while writing" else 1)
    checkpoint.remove()
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_of_other_settings_or_a_torn_one_is_refused(tmp_path):
    path = tmp_path / "abc.pt"
    line = Line()
    train(line, [phase(line, 1)], settings(), checkpoint=Checkpoint(path, "abc"))
    with pytest.raises(UserError, match="other settings"):
        Checkpoint(path, "abd").load()
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="delete it"):
        Checkpoint(path, "abc").load()


def test_a_loss_that_is_not_finite_names_epoch_and_batch(tmp_path):
    line = Line()
    checkpoint = Checkpoint(tmp_path / "abc.pt", "abc")
    ruin = iter_raising(4)

    def project():
        try:
            ruin()
        except KeyboardInterrupt:
            nn.init.constant_(line.module[1].weight, torch.nan)

    line.project = project
    with pytest.raises(FloatingPointError, match=r"the line: .* nan in epoch 1, batch 2"):
        train(line, [phase(line, 5)], settings(), checkpoint=checkpoint)
    assert len(checkpoint.load().curve) == 1


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ..."),
        MemoryError(),
    ],
)
def test_out_of_memory_names_the_batch_size_and_the_remedy(error):
    line = Line()

    def fail():
        raise error

    line.project = fail
    with pytest.raises(MemoryError, match=r"the line: .* batch size of 5: lower something"):
        train(line, [phase(line, 1)], settings())


def test_other_errors_pass_unchanged():
    line = Line()
    line.project = lambda: torch.zeros(2) @ torch.zeros(3)
    with pytest.raises(RuntimeError, match="size"):
        train(line, [phase(line, 1)], settings())
