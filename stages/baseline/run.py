"""One CNN baseline: trained from scratch on the responses, and scored like any other condition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import safetensors
import torch
from numpy.typing import NDArray

from cache import UserError
from stages.baseline.cost import needed_memory
from stages.baseline.fullmodel import FullModel, FullModelTraining, train_fullmodel
from stages.baseline.images import GreyImages, grey_images
from stages.baseline.minimodel import Minimodels
from stages.baseline.minimodel_training import MinimodelData, MinimodelTraining
from stages.baseline.settings import pooled_size
from stages.baseline.task import MINIMODEL, BaselineTask
from stages.costs import MemoryLimit
from stages.executors.resources import cpu_threads, resident_memory
from stages.readouts.readout import Readouts
from stages.readouts.saved import FittedCondition
from stages.recordings.recording import normalise, response_std
from stages.scores import score, variance_explained
from stages.settings import readable
from stages.training.checkpoints import keep_weights, trained_weights
from stages.training.epoch import Epoch

#: Name of the fullmodel's first convolution among its kept weights.
FIRST_LAYER = "core.conv.weight"

_Progress = Callable[[Epoch], None]


def train_baseline(task: BaselineTask, *, progress: _Progress | None = None) -> FittedCondition:
    """Train one baseline, keep its networks, and score it.

    Parameters
    ----------
    progress : callable, optional
        Called after every epoch.

    Raises
    ------
    UserError
        A checkpoint of other settings, minimodels whose fullmodel was not trained yet, or a memory
        limit that cannot be kept.
    FloatingPointError
        A training loss that is not finite.
    MemoryError
        Memory ran out.
    """
    if task.device == "cpu" and task.memory_limit is not None:
        MemoryLimit(task.memory_limit, f"a worker has {readable(task.memory_limit)}").require(
            needed_memory(task),
            task.condition.slug,
            lower="lower baseline.batch_size, or choose fewer recording.neurons",
        )
    with cpu_threads(task.settings.threads):
        images = grey_images(task.stimuli, crop=task.crop, size=task.size)
        train = _minimodels if task.condition.model == MINIMODEL else _fullmodel
        return train(task, images, progress)


def _fullmodel(
    task: BaselineTask, images: GreyImages, progress: _Progress | None
) -> FittedCondition:
    recording, validation = normalise(task.recording), task.recording.validation
    model = FullModel(
        task.settings, input_size=task.size, neurons=recording.neurons, seed=task.condition.seed
    ).to(task.device)
    rows = images.rows(recording.image_ids)
    training = FullModelTraining(
        model,
        images,
        train=rows[~validation],
        validation=rows[validation],
        r_train=recording.responses[~validation],
        r_validation=recording.responses[validation],
    )
    trained = train_fullmodel(
        training, task.settings, task.loop, checkpoint=task.checkpoint, progress=progress
    )
    keep_weights(trained_weights(model), task.weights_path)
    weights = {name: p.detach().cpu().numpy() for name, p in model.readout.named_parameters()}
    return _scored(
        task,
        weights,
        validation_rates=training.predict(rows[validation]),
        test_rates=training.predict(images.rows(recording.test_image_ids)),
        curve=trained.curve,
        seconds=trained.seconds,
    )


def _minimodels(
    task: BaselineTask, images: GreyImages, progress: _Progress | None
) -> FittedCondition:
    recording, validation = normalise(task.recording), task.recording.validation
    settings, rows = task.settings, images.rows(recording.image_ids)
    minimodels = Minimodels(
        first_channels=settings.channels[0],
        channels=settings.minimodel.channels,
        kernel=settings.kernels[1],
        grid=pooled_size(task.size),
        momentum=settings.momentum,
    )
    data = MinimodelData(
        images=images,
        train=rows[~validation],
        validation=rows[validation],
        r_train=torch.from_numpy(recording.responses[~validation]),
        r_validation=torch.from_numpy(recording.responses[validation]),
        neurons=recording.neurons,
        kernels=_first_layer(task),
    )
    training = MinimodelTraining(
        minimodels,
        data,
        settings,
        task.loop,
        device=task.device,
        memory_limit=_spare(task),
    )
    population = training.run(checkpoint=task.checkpoint, progress=progress)
    keep_weights({"weights": population.weights, **population.running}, task.weights_path)
    named = minimodels.named(population.weights.cpu())
    weights = {name: named[name].numpy() for name in _READOUT} | {
        "bias": named["bias"][:, 0].numpy()
    }
    test_rows = images.rows(recording.test_image_ids)
    return _scored(
        task,
        weights,
        validation_rates=training.predict(population.weights, population.running, data.validation),
        test_rates=training.predict(population.weights, population.running, test_rows),
        curve=population.curve,
        seconds=population.seconds,
    )


def _spare(task: BaselineTask) -> int | None:
    """Bytes for the activations of the minimodels that are computed at a time."""
    if task.memory_limit is None or task.device != "cpu":
        return None
    return max(0, task.memory_limit - resident_memory())


_READOUT = ("row_weights", "column_weights", "channel_weights")


def _first_layer(task: BaselineTask) -> torch.Tensor:
    """The trained fullmodel's first convolution."""
    path = task.fullmodel.weights_path
    if not path.exists():
        raise UserError(
            f"{path}: no trained fullmodel whose first layer the minimodels could share: name "
            '"cnn_fullmodel" in baseline.models, too'
        )
    with safetensors.safe_open(path, framework="pt") as weights:
        kernels: torch.Tensor = weights.get_tensor(FIRST_LAYER)
    return kernels


def _scored(
    task: BaselineTask,
    weights: dict[str, NDArray[np.float32]],
    *,
    validation_rates: NDArray[np.float32],
    test_rates: NDArray[np.float32],
    curve: list[Epoch],
    seconds: float,
) -> FittedCondition:
    """The outcome, in the recording's units."""
    recording, scale = task.recording, response_std(task.recording)
    test_predictions = test_rates * scale
    columns: dict[str, NDArray[Any]] = score(recording, test_predictions)
    responses = recording.responses[recording.validation]
    return FittedCondition(
        condition=task.condition,
        key=task.key,
        inputs=task.inputs,
        readouts=Readouts(
            row_weights=weights["row_weights"],
            column_weights=weights["column_weights"],
            channel_weights=weights["channel_weights"],
            bias=weights["bias"],
            scale=scale,
            curve=curve,
        ),
        columns=columns | {"val_varexp": variance_explained(responses, validation_rates * scale)},
        test_image_ids=recording.test_image_ids,
        test_predictions=test_predictions,
        weights=None,
        cache_key=None,
        seconds=seconds,
    )
