"""Cost of fine-tuning: time and memory, told from sizes; the constants were measured."""

from __future__ import annotations

from dataclasses import dataclass

from cache import TokenShape
from stages.backbones.families import VIT_RATE, block_operations
from stages.conditions import Condition
from stages.costs import COPIES, FLOAT, PASSES, Cost, Portion, readout_seconds
from stages.executors.resources import PROCESS, TIMM
from stages.finetune.settings import FinetuneSettings
from stages.readouts.sizes import PREDICT_ELEMENTS
from stages.stage import Work

#: Numbers that a tuned block keeps of each token for the way back, per channel, and those that come
#: and go in any block.
KEPT, PASSING = 21, 20

#: Intermediates of the size (image, row, column, neuron) at a time, in training and prediction.
TRAINED, PREDICTED = 4, 3

#: What tensors that come and go leave behind, as a fraction of their size.
SLACK = 0.1


@dataclass(frozen=True, kw_only=True)
class TuningSize:
    """Sizes that decide how much memory one condition needs.

    Parameters
    ----------
    tokens : TokenShape
        Of the backbone.
    block, tuned_blocks : int
        The readout block, and how many blocks are trained.
    cls : bool
        Whether CLS tokens are read, rather than patches.
    n_neurons, n_trials : int
        Of the recording; training and validation.
    pass_size : int
        Trials per pass.
    """

    tokens: TokenShape
    block: int
    tuned_blocks: int
    n_neurons: int
    n_trials: int
    pass_size: int
    cls: bool = False


def tuning_memory(size: TuningSize) -> int:
    """Bytes of a process that trains one condition, without the tokens that it may hold."""
    width, (rows, columns) = size.tokens.n_channels, size.tokens.grid
    n_tokens = rows * columns + 1 + size.tokens.n_registers
    per_block = 12 * width**2 + 13 * width
    places = 1 if size.cls else rows * columns
    readouts = size.n_neurons * ((1 if size.cls else rows + columns) + width + 1)
    trained = size.tuned_blocks * per_block + readouts
    # What is trained on is a copy of a part of the whole, which is let go of before training.
    part, whole = (n * per_block for n in (size.block + 1, size.tokens.n_blocks))
    activations = size.pass_size * n_tokens * width * (KEPT * size.tuned_blocks + PASSING)
    maps = places * size.n_neurons
    between = max(
        TRAINED * size.pass_size * maps,
        PREDICTED * min(PREDICT_ELEMENTS, size.n_trials * maps),
    )
    # As recorded; what is held out is normalised, too, and compared in float64 several times.
    responses = 2 * size.n_trials * size.n_neurons
    training = COPIES * trained + activations + between + responses
    numbers = part + max(whole, (1 + SLACK) * training)
    return PROCESS + TIMM + int(FLOAT * numbers)


def planned_size(condition: Condition, work: Work, settings: FinetuneSettings) -> TuningSize:
    """The sizes of a condition, whose counts are known."""
    assert condition.block is not None and work.tokens is not None
    return TuningSize(
        tokens=work.tokens,
        block=condition.block,
        tuned_blocks=work.tuned_blocks,
        n_neurons=work.neurons or 0,
        n_trials=work.trials or 0,
        pass_size=settings.micro_batch or settings.batch_size,
        cls=condition.tokens == "cls",
    )


def tuning_cost(
    size: TuningSize,
    *,
    passed_blocks: int,
    epochs: int,
    n_bytes: int,
    memory_limit: int | None = None,
) -> Cost:
    """The cost of one fine-tuning condition, if it takes all its epochs.

    Parameters
    ----------
    passed_blocks : int
        Blocks that an image passes, the trained ones among them.
    n_bytes : int
        Bytes of cached tokens that it starts from; 0 from images.
    memory_limit : int, optional
        Bytes that each worker may use: tokens beyond it are on a disk.
    """
    blocks = passed_blocks + (PASSES - 1) * size.tuned_blocks
    places = 1 if size.cls else size.tokens.grid[0] * size.tokens.grid[1]
    images = size.n_trials * epochs
    least = tuning_memory(size)
    held = n_bytes if memory_limit is None or least + n_bytes <= memory_limit else 0
    shares = {
        "backbone": images * blocks * block_operations(size.tokens) / VIT_RATE,
        "readouts": images * readout_seconds(places, size.tokens.n_channels, size.n_neurons),
    }
    return Cost(
        phases=(Portion(sum(shares.values())),),
        n_bytes=n_bytes,
        memory=least + held,
        shares=shares,
    )
