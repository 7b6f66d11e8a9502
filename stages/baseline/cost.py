"""Cost of the CNN baselines: time and memory, told from sizes; the constants were measured."""

from __future__ import annotations

from stages.baseline.settings import BaselineSettings, pooled_size
from stages.baseline.task import MINIMODEL, BaselineTask
from stages.conditions import Condition
from stages.costs import COPIES, FLOAT, PASSES, Cost, Portion, readout_seconds
from stages.executors.resources import PROCESS
from stages.stage import Planned
from stages.stimuli.stimuli import Stimuli

#: Floating-point operations per second of one core in float32, through convolutions, and through
#: those of minimodels side by side.
CNN_RATE = 36e9
MINIMODEL_RATE = 24e9

#: Images per pass where nothing is trained, with their intermediates halved.
PREDICTED = 50

#: What the libraries that convolve add to a process.
CONVOLUTIONS = 250 * 10**6

#: Activations of the first and the second layer's size, and intermediates of the readouts' size
#: (image, channel, neuron), that live at a time; gradients included.
FIRST, SECOND, READOUTS = 2, 6, 3


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
        passing = max(batch, PREDICTED) * (
            SECOND * second * places + FIRST * first * rows * columns + READOUTS * intermediate
        )
    # As recorded, normalised, split, and predicted.
    responses = 4 * n_trials * n_neurons
    return PROCESS + CONVOLUTIONS + pixel_bytes + FLOAT * (held + passing + responses)


def needed_memory(task: BaselineTask) -> int:
    """Bytes of a process that trains one baseline on the CPU."""
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


def planned_memory(
    planned: Planned, settings: BaselineSettings, stimuli: Stimuli | None
) -> int | None:
    """The same of a planned condition; None where its sizes cannot be told."""
    size, work = planned_input(planned.condition), planned.work
    if size is None or not work.is_known:
        return None
    rows, columns = size if stimuli is None else stimuli.image_shape
    images = (work.trials or 0) + (work.test_images or 0)
    if stimuli is not None:
        images = min(images, len(stimuli))
    itemsize = 1 if stimuli is None else stimuli.dtype.itemsize
    crop = settings.crop or (0, columns)
    return network_memory(
        settings,
        input_size=size,
        n_trials=work.trials or 0,
        n_neurons=work.neurons or 0,
        pixel_bytes=images * rows * (crop[1] - crop[0]) * itemsize,
        minimodels=planned.condition.model == MINIMODEL,
    )


def planned_input(condition: Condition) -> tuple[int, int] | None:
    """Rows and columns that a planned network sees; None where only the images tell."""
    rows, _, columns = condition.input_size.partition("x")
    return (int(rows), int(columns)) if int(rows) and int(columns) else None


def cnn_cost(
    settings: BaselineSettings,
    *,
    input_size: tuple[int, int],
    n_trials: int,
    n_neurons: int,
    minimodels: bool,
) -> Cost:
    """The cost of one CNN baseline, if it takes all its epochs.

    Parameters
    ----------
    input_size : pair of int
        Rows and columns that the network sees.
    n_trials : int
        Training and validation.
    minimodels : bool
        One network per neuron, rather than one for all.
    """
    rows, columns = input_size
    pixels, places = rows * columns, (rows // 2) * (columns // 2)
    first, second = settings.channels
    wide, narrow = settings.kernels
    convolution = 2.0 * first * wide**2 * pixels
    if minimodels:
        channels = settings.minimodel.channels
        own = 2.0 * PASSES * channels * places * (first + narrow**2 + 1)
        seconds = convolution / CNN_RATE + n_neurons * own / MINIMODEL_RATE
    else:
        separable = 2.0 * second * places * (first + narrow**2 + second)
        seconds = PASSES * (convolution + separable) / CNN_RATE
        seconds += readout_seconds(places, second, n_neurons)
    memory = network_memory(
        settings,
        input_size=input_size,
        n_trials=n_trials,
        n_neurons=n_neurons,
        pixel_bytes=n_trials * pixels,
        minimodels=minimodels,
    )
    seconds *= n_trials * sum(settings.epochs)
    return Cost(phases=(Portion(seconds),), memory=memory, shares={"CNN": seconds})
