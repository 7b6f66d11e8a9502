"""What passes through networks cost: the backbone, fine-tuning, and the CNNs.

Operations follow from the architectures; the rates were measured on one core of a shared server.
A GPU takes a small part of it.
"""

from __future__ import annotations

from cache import SHARD_BYTES, TokenShape
from stages.backbones.families import VIT_RATE, block_operations
from stages.baseline.cost import network_memory
from stages.baseline.settings import BaselineSettings
from stages.costs import Cost, Phase
from stages.executors.resources import PROCESS, TIMM
from stages.finetune.cost import TuningSize, least_memory

#: Floating-point operations per second of one core in float32: through readouts, through
#: convolutions, and through those of minimodels side by side.
READOUT_RATE = 130e9
CNN_RATE = 36e9
MINIMODEL_RATE = 24e9

#: Passes that a trained block takes: forward, and backward at twice the cost.
TRAINED = 3


def extraction_cost(tokens: TokenShape, *, n_images: int) -> Cost:
    """The cost of stage one."""
    seconds = n_images * tokens.n_blocks * block_operations(tokens) / VIT_RATE
    weights = 4 * tokens.n_blocks * (12 * tokens.n_channels**2 + 13 * tokens.n_channels)
    # One shard is computed while another is written.
    shards = 2 * min(SHARD_BYTES, n_images * tokens.image_bytes)
    return Cost(
        phases=(Phase(seconds, parts=max(1, n_images * tokens.image_bytes // SHARD_BYTES)),),
        memory=PROCESS + TIMM + weights + shards,
        shares={"backbone": seconds},
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
    blocks = passed_blocks + (TRAINED - 1) * size.tuned_blocks
    places = 1 if size.cls else size.tokens.grid[0] * size.tokens.grid[1]
    images = size.n_trials * epochs
    least = least_memory(size)
    held = n_bytes if memory_limit is None or least + n_bytes <= memory_limit else 0
    shares = {
        "backbone": images * blocks * block_operations(size.tokens) / VIT_RATE,
        "readouts": images * _readout_seconds(places, size.tokens.n_channels, size.n_neurons),
    }
    return Cost(
        phases=(Phase(sum(shares.values())),),
        n_bytes=n_bytes,
        memory=least + held,
        shares=shares,
    )


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
        own = 2.0 * TRAINED * channels * places * (first + narrow**2 + 1)
        seconds = convolution / CNN_RATE + n_neurons * own / MINIMODEL_RATE
    else:
        separable = 2.0 * second * places * (first + narrow**2 + second)
        seconds = TRAINED * (convolution + separable) / CNN_RATE
        seconds += _readout_seconds(places, second, n_neurons)
    memory = network_memory(
        settings,
        input_size=input_size,
        n_trials=n_trials,
        n_neurons=n_neurons,
        pixel_bytes=n_trials * pixels,
        minimodels=minimodels,
    )
    seconds *= n_trials * sum(settings.epochs)
    return Cost(phases=(Phase(seconds),), memory=memory, shares={"CNN": seconds})


def _readout_seconds(places: int, channels: int, n_neurons: int) -> float:
    """Of training the readouts on one image."""
    return TRAINED * 2.0 * places * channels * n_neurons / READOUT_RATE
