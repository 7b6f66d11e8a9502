"""How much memory a fine-tuning condition takes, from sizes alone; the constants were measured."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cache import TokenShape, UserError
from stages.executors.resources import PROCESS, TIMM
from stages.finetune.task import FinetuneTask, first_tuned_block
from stages.readouts.readout import PREDICT_ELEMENTS
from stages.settings import readable

FLOAT = 4


#: Numbers that a tuned block keeps of each token for the way back, per channel, and those that come
#: and go in any block.
KEPT, PASSING = 21, 20

#: What training holds of each trained number: gradient, two moments, best and latest copy, and one
#: that comes and goes.
COPIES = 6

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


def least_memory(size: TuningSize) -> int:
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


def check_memory(task: FinetuneTask) -> int:
    """Bytes that a process needs at least to train one condition on the CPU.

    Raises
    ------
    UserError
        More than `task.memory_limit`; the message names what to lower.
    """
    size = _size(task, _tokens(task))
    needed = least_memory(size)
    if task.memory_limit is not None and needed > task.memory_limit:
        raise UserError(
            f"run.memory_limit leaves {readable(task.memory_limit)} to {task.condition.tuning} at "
            f"block {task.condition.block} of {task.condition.model}, which needs about "
            f"{readable(needed)} with {size.n_neurons} neurons and passes of {size.pass_size} "
            "trials: raise it, lower finetune.micro_batch, or choose fewer recording.neurons"
        )
    return needed


def most_needed(tasks: Iterable[FinetuneTask]) -> int:
    """Bytes that a process needs at least, whichever of the conditions it trains on the CPU."""
    shapes: dict[tuple[str, tuple[int, int]], TokenShape] = {}
    most = 0
    for task in tasks:
        seen = task.condition.model, task.input_size
        if seen not in shapes:
            shapes[seen] = _tokens(task)
        most = max(most, least_memory(_size(task, shapes[seen])))
    return most


def _tokens(task: FinetuneTask) -> TokenShape:
    # timm takes seconds to import, and plans must do without it.
    from stages.backbones.backbone import plan_token_shape

    return plan_token_shape(task.backbone, input_size=task.input_size, dtype="float16")


def _size(task: FinetuneTask, tokens: TokenShape) -> TuningSize:
    block, settings = task.condition.block, task.settings
    assert block is not None
    return TuningSize(
        tokens=tokens,
        block=block,
        tuned_blocks=block + 1 - max(0, first_tuned_block(task.last, block)),
        cls=task.condition.tokens == "cls",
        n_neurons=task.recording.n_neurons,
        n_trials=len(task.recording.image_ids),
        pass_size=settings.micro_batch or settings.batch_size,
    )
