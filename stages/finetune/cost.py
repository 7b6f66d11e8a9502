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

#: Layers of a block where each is a stage of a network, on a grid of its own: those of a Swin-T's
#: deepest. Tokens do not tell how many there are.
STAGE_LAYERS = 6

#: Intermediates of the size (image, row, column, neuron) at a time, in training and prediction.
TRAINED, PREDICTED = 4, 3

#: What tensors that come and go leave behind, as a fraction of their size.
SLACK = 0.1


def tuning_memory(planned: Planned, settings: FinetuneSettings) -> int:
    """Bytes of a process that trains one condition, without the tokens that it may hold."""
    work, tokens, block = planned.work, planned.work.tokens, planned.condition.block
    n_neurons, n_trials = work.neurons or 0, work.trials or 0
    assert tokens is not None and block is not None
    width, (rows, columns) = tokens.blocks[block].n_channels, tokens.blocks[block].grid
    layers = STAGE_LAYERS if tokens.differing else 1
    sizes = [layers * (12 * b.n_channels**2 + 13 * b.n_channels) for b in tokens.blocks]
    prefix = (tokens.has_cls + tokens.n_registers) * tokens.passes
    numbers = [(b.grid[0] * b.grid[1] + prefix) * b.n_channels for b in tokens.blocks]
    cls = planned.condition.tokens == "cls"
    places = 1 if cls else rows * columns
    readouts = n_neurons * ((1 if cls else rows + columns) + width + 1)
    tuned = slice(block + 1 - work.tuned_blocks, block + 1)
    trained = sum(sizes[tuned]) + readouts
    # What is trained on is a copy of a part of the whole, which is let go of before training.
    part, whole = sum(sizes[: block + 1]), sum(sizes)
    kept, passing = layers * sum(numbers[tuned]), max(numbers[: block + 1])
    activations = settings.pass_size * (KEPT * kept + PASSING * passing)
    maps = places * n_neurons
    between = max(
        TRAINED * settings.pass_size * maps, PREDICTED * min(PREDICT_ELEMENTS, n_trials * maps)
    )
    # As recorded; what is held out is normalised, too, and compared in float64 several times.
    responses = 2 * n_trials * n_neurons
    training = COPIES * trained + activations + between + responses
    held = part + max(whole, (1 + SLACK) * training)
    return PROCESS + TIMM + int(FLOAT * held)


def tuning_cost(
    planned: Planned, settings: FinetuneSettings, *, memory_limit: int | None = None
) -> Cost:
    """The cost of one fine-tuning condition, if it takes all its epochs.

    Parameters
    ----------
    memory_limit : int, optional
        Bytes that each worker may use: tokens beyond it are on a disk.
    """
    work, tokens, block = planned.work, planned.work.tokens, planned.condition.block
    assert tokens is not None and block is not None
    layers = STAGE_LAYERS if tokens.differing else 1
    each = [layers * block_operations(tokens, index) for index in range(block + 1)]
    run, tuned = (sum(each[block + 1 - n :]) for n in (work.blocks, work.tuned_blocks))
    shape = tokens.blocks[block]
    places = 1 if planned.condition.tokens == "cls" else shape.grid[0] * shape.grid[1]
    images, n_bytes = (work.trials or 0) * work.epochs, work.n_bytes or 0
    least = tuning_memory(planned, settings)
    held = n_bytes if memory_limit is None or least + n_bytes <= memory_limit else 0
    shares = {
        "backbone": images * (run + (PASSES - 1) * tuned) / VIT_RATE,
        "readouts": images * readout_seconds(places, shape.n_channels, work.neurons or 0),
    }
    return Cost(
        phases=(Portion(sum(shares.values())),),
        n_bytes=n_bytes,
        memory=least + held,
        shares=shares,
    )
