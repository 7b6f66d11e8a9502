"""Cost of fine-tuning: time and memory, told from sizes; the constants were measured."""

from __future__ import annotations

from stages.backbones.families import VIT_RATE, block_operations
from stages.costs import COPIES, FLOAT, PASSES, Cost, Portion, readout_seconds
from stages.executors.resources import PROCESS, TIMM
from stages.finetune.settings import FinetuneSettings
from stages.readouts.sizes import PREDICT_ELEMENTS
from stages.stage import Planned

#: Numbers that a tuned block keeps of each token for the way back, per channel, and those that come
#: and go in any block.
KEPT, PASSING = 21, 20

#: Intermediates of the size (image, row, column, neuron) at a time, in training and prediction.
TRAINED, PREDICTED = 4, 3

#: What tensors that come and go leave behind, as a fraction of their size.
SLACK = 0.1


def tuning_memory(planned: Planned, settings: FinetuneSettings) -> int:
    """Bytes of a process that trains one condition, without the tokens that it may hold."""
    work, tokens, block = planned.work, planned.work.tokens, planned.condition.block
    n_neurons, n_trials = work.neurons or 0, work.trials or 0
    assert tokens is not None and block is not None
    width, (rows, columns) = tokens.n_channels, tokens.grid
    n_tokens = rows * columns + 1 + tokens.n_registers
    per_block = 12 * width**2 + 13 * width
    cls = planned.condition.tokens == "cls"
    places = 1 if cls else rows * columns
    readouts = n_neurons * ((1 if cls else rows + columns) + width + 1)
    trained = work.tuned_blocks * per_block + readouts
    # What is trained on is a copy of a part of the whole, which is let go of before training.
    part, whole = (n * per_block for n in (block + 1, tokens.n_blocks))
    activations = settings.pass_size * n_tokens * width * (KEPT * work.tuned_blocks + PASSING)
    maps = places * n_neurons
    between = max(
        TRAINED * settings.pass_size * maps, PREDICTED * min(PREDICT_ELEMENTS, n_trials * maps)
    )
    # As recorded; what is held out is normalised, too, and compared in float64 several times.
    responses = 2 * n_trials * n_neurons
    training = COPIES * trained + activations + between + responses
    numbers = part + max(whole, (1 + SLACK) * training)
    return PROCESS + TIMM + int(FLOAT * numbers)


def tuning_cost(
    planned: Planned, settings: FinetuneSettings, *, memory_limit: int | None = None
) -> Cost:
    """The cost of one fine-tuning condition, if it takes all its epochs.

    Parameters
    ----------
    memory_limit : int, optional
        Bytes that each worker may use: tokens beyond it are on a disk.
    """
    work, tokens = planned.work, planned.work.tokens
    assert tokens is not None
    blocks = work.blocks + (PASSES - 1) * work.tuned_blocks
    places = 1 if planned.condition.tokens == "cls" else tokens.grid[0] * tokens.grid[1]
    images, n_bytes = (work.trials or 0) * work.epochs, work.n_bytes or 0
    least = tuning_memory(planned, settings)
    held = n_bytes if memory_limit is None or least + n_bytes <= memory_limit else 0
    shares = {
        "backbone": images * blocks * block_operations(tokens) / VIT_RATE,
        "readouts": images * readout_seconds(places, tokens.n_channels, work.neurons or 0),
    }
    return Cost(
        phases=(Portion(sum(shares.values())),),
        n_bytes=n_bytes,
        memory=least + held,
        shares=shares,
    )
