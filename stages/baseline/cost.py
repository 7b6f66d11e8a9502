"""How much memory a CNN baseline takes on the CPU; the constants were measured."""

from __future__ import annotations

from cache import UserError
from stages.baseline.fullmodel import pooled_size
from stages.baseline.images import PREDICT_BATCH
from stages.baseline.settings import BaselineSettings
from stages.baseline.task import MINIMODEL, BaselineTask
from stages.executors.resources import PROCESS
from stages.settings import readable

FLOAT = 4

#: What the libraries that convolve add to a process.
CONVOLUTIONS = 250 * 10**6

#: Activations of the first and the second layer's size, and intermediates of the readouts' size
#: (image, channel, neuron), that live at a time; gradients included.
FIRST, SECOND, READOUTS = 2, 6, 3

#: What training holds of each minimodel: weights, gradient, two moments, and copies of the best.
COPIES = 6


def network_memory(
    settings: BaselineSettings,
    *,
    input_size: tuple[int, int],
    n_trials: int,
    n_neurons: int,
    pixel_bytes: int,
    minimodels: bool,
) -> int:
    """Bytes of a process that trains one baseline.

    Parameters
    ----------
    input_size : pair of int
        Rows and columns that the network sees.
    n_trials : int
        Training and validation.
    pixel_bytes : int
        Of all images as they are stored.
    minimodels : bool
        One network per neuron, rather than one for all.
    """
    rows, columns = input_size
    pooled_rows, pooled_columns = pooled_size(input_size)
    places = pooled_rows * pooled_columns
    first, second = settings.channels
    batch = settings.batch_size
    if minimodels:
        # Neurons are trained as many at a time as there is room for: one at least.
        channels, kernel = settings.minimodel.channels, settings.kernels[1]
        weights = first * (channels + 2) + channels * (kernel**2 + 3)
        held = COPIES * n_neurons * (weights + pooled_rows + pooled_columns + 1)
        passing = batch * (SECOND * channels * places + 2 * FIRST * first * rows * columns)
    else:
        held = COPIES * n_neurons * (second + pooled_rows + pooled_columns + 1)
        intermediate = n_neurons * (second if second < places else places)
        passing = max(batch, PREDICT_BATCH // 2) * (
            SECOND * second * places + FIRST * first * rows * columns + READOUTS * intermediate
        )
    # As recorded, normalised, split, and predicted.
    responses = 4 * n_trials * n_neurons
    return PROCESS + CONVOLUTIONS + pixel_bytes + FLOAT * (held + passing + responses)


def least_memory(task: BaselineTask) -> int:
    """Bytes of a process that trains one baseline."""
    columns = task.crop[1] - task.crop[0]
    pixels = len(task.stimuli) * task.stimuli.image_shape[0] * columns
    return network_memory(
        task.settings,
        input_size=task.size,
        n_trials=len(task.recording.image_ids),
        n_neurons=task.recording.n_neurons,
        pixel_bytes=pixels * task.stimuli.dtype.itemsize,
        minimodels=task.condition.model == MINIMODEL,
    )


def check_memory(task: BaselineTask) -> None:
    """Refuse what the memory cannot hold, before hours of training.

    Raises
    ------
    UserError
        The message names what to lower.
    """
    needed = least_memory(task)
    if task.memory_limit is not None and needed > task.memory_limit:
        raise UserError(
            f"run.memory_limit leaves {readable(task.memory_limit)} to {task.condition.model} of "
            f"{task.condition.recording}, which needs about {readable(needed)} with "
            f"{task.recording.n_neurons} neurons and batches of {task.settings.batch_size} images: "
            "raise it, lower baseline.batch_size, or choose fewer recording.neurons"
        )
