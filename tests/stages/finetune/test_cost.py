"""Fine-tuning within a memory limit: the same numbers, or a refusal that says what helps."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from support.tuning_runs import flags, outdate, tasks

from cache import BlockShape, Places, TokenShape, UserError
from pipeline.cli.main import main
from stages.backbones import VIT_RATE, block_operations
from stages.conditions import Condition
from stages.costs import PASSES
from stages.finetune import run as finetune
from stages.finetune.cost import STAGE_LAYERS, tuning_cost, tuning_memory
from stages.finetune.run import finetune_condition
from stages.finetune.settings import FinetuneSettings
from stages.finetune.stage import Finetune
from stages.stage import Planned, Work
from stages.tokens.random_access import RowsOnDisk, hold

SHAPE = TokenShape(n_blocks=12, grid=(4, 8), n_channels=384, n_registers=4, dtype="float16")


def memory(pass_size=32, block=4, tokens="patch", **more):
    condition = Condition(recording="r", model="m", input_size="64x128", tokens=tokens, block=block)
    work = Work(tokens=SHAPE, **{"tuned_blocks": 2, "neurons": 1000, "trials": 5000} | more)
    settings = FinetuneSettings(batch_size=64, micro_batch=pass_size)
    return tuning_memory(Planned(condition=condition, work=work), settings)


@pytest.mark.parametrize(
    "more",
    [
        {"tuned_blocks": 4},
        {"neurons": 2000},
        {"trials": 10**4},
        {"pass_size": 64},
        {"block": 9},
    ],
)
def test_more_of_anything_takes_more_memory(more):
    assert memory(**more) > memory()
    assert memory(tokens="cls") < memory()


def backbone_seconds(shape):
    read = {"tokens": "patch", "block": 1}
    condition = Condition(recording="r", model="m", input_size="64x128", **read)
    work = Work(tokens=shape, blocks=2, tuned_blocks=1, neurons=10, trials=100, epochs=1)
    cost = tuning_cost(Planned(condition=condition, work=work), FinetuneSettings())
    return cost.shares["backbone"]


def test_every_pass_and_the_size_of_each_block_count():
    places = Places(stride=(8, 8), first_centre=(8, 8), passes=4)
    shifted = dataclasses.replace(SHAPE, grid=(8, 16), places=places)
    assert backbone_seconds(shifted) == pytest.approx(4 * backbone_seconds(SHAPE))
    stages = [BlockShape(grid=(8, 16), n_channels=24), BlockShape(grid=(4, 8), n_channels=48)]
    swin = TokenShape.of_blocks(stages, n_registers=0, has_cls=False, dtype="float16")
    first, second = (STAGE_LAYERS * block_operations(swin, block) for block in (0, 1))
    expected = 100 * (first + PASSES * second) / VIT_RATE
    assert backbone_seconds(swin) == pytest.approx(expected)


def test_tuning_within_a_limit_gives_the_same_numbers(tuned_run, run_copy, monkeypatch):
    """Tokens from a temporary file, bit for bit what they are in memory."""
    task = tasks(tuned_run, run_copy)["last1"]
    free = finetune_condition(task)
    held = []
    monkeypatch.setattr(
        finetune,
        "hold",
        lambda source, *, in_memory: held.append(hold(source, in_memory=in_memory)) or held[-1],
    )
    limited = finetune_condition(dataclasses.replace(task, memory_limit=task.needed_memory))
    assert [type(rows) for rows in held] == [RowsOnDisk] and limited.key == free.key
    np.testing.assert_array_equal(limited.test_predictions, free.test_predictions)


def test_a_limit_that_cannot_be_kept_is_refused_before_training(tuned_run, run_copy, capsys):
    task = tasks(tuned_run, run_copy)["last1"]
    both = [task, tasks(tuned_run, run_copy)["last0"]]
    crew = Finetune().crew(both, workers=2, devices=["cpu"])
    assert crew.needed() == task.needed_memory
    with pytest.raises(UserError, match=r"finetune\.micro_batch"):
        finetune_condition(dataclasses.replace(task, memory_limit=task.needed_memory - 1))
    outdate(run_copy)
    capsys.readouterr()
    small = flags(run_copy, "finetune.last=[1]", "run.memory_limit=100MB")
    assert main(["finetune", str(tuned_run), *small]) == 2
    told = capsys.readouterr().err
    assert "run.memory_limit leaves 100.0 MB to last1 at block 1" in told


def test_fewer_conditions_are_tuned_at_a_time(tuned_run, run_copy, capsys):
    outdate(run_copy)
    capsys.readouterr()
    limit = flags(run_copy, "finetune.last=[0, 1]", "run.workers=2", "run.memory_limit=2GB")
    assert main(["finetune", str(tuned_run), *limit]) == 0
    assert "holds 1 of 2 workers" in capsys.readouterr().err
