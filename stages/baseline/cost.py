"""Cost of the CNN baselines: time and memory, told from sizes; the constants were measured."""

from __future__ import annotations

from stages.baseline.settings import MINIMODEL, BaselineSettings, pooled_size
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

#: Copies of a batch's tokens that live at a time: as stored, in float32, normalised.
TOKENS = 3

#: Values of one activation of minimodels (neuron, image, place, channel) that are computed at a
#: time on a CPU, or those of one neuron: more leave its caches and were slower.
CPU_ELEMENTS = 2**20


def input_of(planned: Planned) -> tuple[int, int] | None:
    """Rows and columns that the network sees; None where only the images tell."""
    size = planned.condition.size
    return size if all(size) else None


def network_memory(planned: Planned, settings: BaselineSettings, pixel_bytes: int) -> int:
    """Bytes of a process that trains one baseline, whose sizes are known.

    Parameters
    ----------
    pixel_bytes : int
        Of all images as they are stored.
    """
    size, n_neurons = input_of(planned), planned.work.neurons or 0
    assert size is not None
    rows, columns = size
    pooled_rows, pooled_columns = pooled_size(size)
    places = pooled_rows * pooled_columns
    first, second = settings.channels
    batch = settings.batch_size
    if planned.condition.model == MINIMODEL:
        channels, kernel = settings.minimodel.channels, settings.kernels[1]
        weights = first * (channels + 2) + channels * (kernel**2 + 3)
        held = COPIES * n_neurons * (weights + pooled_rows + pooled_columns + 1)
        passing = SECOND * max(batch * channels * places, CPU_ELEMENTS)
        passing += batch * 2 * FIRST * first * rows * columns
    else:
        held = COPIES * n_neurons * (second + pooled_rows + pooled_columns + 1)
        intermediate = n_neurons * (second if second < places else places)
        passing = max(batch, PREDICTED) * (
            SECOND * second * places + FIRST * first * rows * columns + READOUTS * intermediate
        )
        if (beside := _beside(planned)) is not None:
            tokens, width = beside
            held += COPIES * n_neurons * (tokens + width)
            intermediate = n_neurons * min(tokens, width)
            passing += max(batch, PREDICTED) * READOUTS * intermediate
            passing += max(batch, 2 * PREDICTED) * TOKENS * tokens * width
    # As recorded, normalised, split, and predicted.
    responses = 4 * (planned.work.trials or 0) * n_neurons
    return PROCESS + CONVOLUTIONS + pixel_bytes + FLOAT * (held + passing + responses)


def planned_memory(
    planned: Planned, settings: BaselineSettings, stimuli: Stimuli | None
) -> int | None:
    """The same of a planned condition; None where its sizes cannot be told."""
    size, work = input_of(planned), planned.work
    if size is None or not work.is_known:
        return None
    images, itemsize = (work.trials or 0) + (work.test_images or 0), 1
    rows, columns = size
    if stimuli is not None:
        images, itemsize = min(images, len(stimuli)), stimuli.dtype.itemsize
        rows, columns = stimuli.image_shape
    first, last = settings.crop or (0, columns)
    return network_memory(planned, settings, images * rows * (last - first) * itemsize)


def cnn_cost(planned: Planned, settings: BaselineSettings) -> Cost | None:
    """The cost of one CNN baseline, if it takes all its epochs; None where it cannot be told."""
    size, work = input_of(planned), planned.work
    if size is None or not work.is_known:
        return None
    rows, columns = size
    n_trials, n_neurons = work.trials or 0, work.neurons or 0
    pixels, places = rows * columns, (rows // 2) * (columns // 2)
    first, second = settings.channels
    wide, narrow = settings.kernels
    convolution = 2.0 * first * wide**2 * pixels
    if planned.condition.model == MINIMODEL:
        channels = settings.minimodel.channels
        own = 2.0 * PASSES * channels * places * (first + narrow**2 + 1)
        seconds = convolution / CNN_RATE + n_neurons * own / MINIMODEL_RATE
    else:
        separable = 2.0 * second * places * (first + narrow**2 + second)
        seconds = PASSES * (convolution + separable) / CNN_RATE
        seconds += readout_seconds(places, second, n_neurons)
    n_bytes = 0
    if (beside := _beside(planned)) is not None:
        seconds += readout_seconds(*beside, n_neurons)
        n_bytes = work.n_bytes or 0
    memory = network_memory(planned, settings, n_trials * pixels) + n_bytes
    seconds *= n_trials * sum(settings.epochs)
    return Cost(phases=(Portion(seconds),), n_bytes=n_bytes, memory=memory, shares={"CNN": seconds})


def _beside(planned: Planned) -> tuple[int, int] | None:
    """Places and channels of the tokens beside a core, where there are any."""
    tokens, block = planned.work.tokens, planned.condition.block
    if tokens is None or block is None:
        return None
    shape = tokens.blocks[block]
    return shape.grid[0] * shape.grid[1], shape.n_channels
