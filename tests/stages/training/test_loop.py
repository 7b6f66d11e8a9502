"""The training loop: exact resumption, and errors that say what to do."""

import io
import multiprocessing
import os
import signal
from functools import partial

import pytest
import torch
from support.line import Line, descend, phase, settings, weights
from torch import nn

from stages.training.checkpoints import Checkpoint


@pytest.mark.parametrize("at", [0, 2, 3, 5])
def test_an_interrupted_run_ends_with_the_same_weights(tmp_path, at):
    """Dropout draws random numbers in every batch, so that the generators matter too."""

    def learner():
        return Line(dropout=0.3)

    def phases(line):
        return [phase(line, 4), phase(line, 3, rate=0.03)]

    whole = learner()
    first = descend(whole, phases(whole), settings())
    checkpoint = Checkpoint(tmp_path / "abc.pt", "abc")

    def stop(epoch):
        if epoch.epoch == at:
            raise KeyboardInterrupt

    line = learner()
    with pytest.raises(KeyboardInterrupt):
        descend(line, phases(line), settings(), checkpoint=checkpoint, progress=stop)
    torch.randn(7)  # whatever was drawn in between
    line = learner()
    second = descend(line, phases(line), settings(), checkpoint=checkpoint)
    assert second.curve == first.curve and len(first.curve) > 5
    assert all(torch.equal(a, b) for a, b in zip(weights(line), weights(whole), strict=True))


def test_an_interruption_inside_an_epoch_repeats_it(tmp_path):
    whole = Line()
    descend(whole, [phase(whole, 5)], settings())
    checkpoint = Checkpoint(tmp_path / "abc.pt", "abc")
    line = Line()
    line.project = iter_raising(7)
    with pytest.raises(KeyboardInterrupt):
        descend(line, [phase(line, 5)], settings(), checkpoint=checkpoint)
    line = Line()
    descend(line, [phase(line, 5)], settings(), checkpoint=checkpoint)
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
    descend(
        line,
        [phase(line, 5)],
        settings(),
        checkpoint=Checkpoint(path, "abc"),
        progress=after,
    )


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork"
)
@pytest.mark.parametrize(("moment", "kept"), [("after", 2), ("while writing", 1)])
def test_a_killed_process_goes_on_to_the_same_weights(tmp_path, moment, kept):
    whole = Line(dropout=0.3)
    descend(whole, [phase(whole, 5)], settings())
    checkpoint = Checkpoint(tmp_path / "abc.pt", "abc")
    fork = multiprocessing.get_context("fork")
    child = fork.Process(target=train_until_killed, args=(checkpoint.path, moment))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL and len(checkpoint.load()["curve"]) == kept
    line = Line(dropout=0.3)
    descend(line, [phase(line, 5)], settings(), checkpoint=checkpoint)
    assert all(torch.equal(a, b) for a, b in zip(weights(line), weights(whole), strict=True))
    assert len(list(tmp_path.iterdir())) == (3 if moment == "while writing" else 2)
    checkpoint.remove()
    assert not list(tmp_path.iterdir())


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
        descend(line, [phase(line, 5)], settings(), checkpoint=checkpoint)
    assert len(checkpoint.load()["curve"]) == 1


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
        descend(line, [phase(line, 1)], settings())


def test_other_errors_pass_unchanged():
    line = Line()
    line.project = lambda: torch.zeros(2) @ torch.zeros(3)
    with pytest.raises(RuntimeError, match="size"):
        descend(line, [phase(line, 1)], settings())
