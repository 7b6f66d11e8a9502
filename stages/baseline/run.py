"""One CNN baseline: trained from scratch on the responses, and scored like any other condition."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import nn

from cache import Places, UserError
from stages.baseline.cnn_vit.from_pixels import cnn_vit_from_pixels, recorded_grid
from stages.baseline.cnn_vit.inputs import held_tokens
from stages.baseline.cnn_vit.network import CnnVit
from stages.baseline.fullmodel import CoreNetwork, FullModel
from stages.baseline.images import PREDICT_BATCH, GreyImages, GreyPreprocessing, grey_images
from stages.baseline.minimodel import KERNELS, WEIGHTS, MinimodelPopulation, Minimodels
from stages.baseline.minimodel_training import MinimodelTraining
from stages.baseline.settings import MINIMODEL, BaselineSettings
from stages.baseline.task import BaselineTask
from stages.networks.from_pixels import FromPixels
from stages.readouts.load import SavedReadouts
from stages.readouts.manifest import refuse, saved_damage
from stages.readouts.readout import Readout
from stages.readouts.saved import FittedCondition
from stages.recordings.derived import normalise
from stages.training.checkpoints import keep_weights, kept_path, restore, trained_weights
from stages.training.descent import Descent
from stages.training.epoch import Epoch
from stages.training.loop import LoopSettings, Trained, train
from stages.training.network import Inputs, RecordedNetwork, fitted_readouts

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
        A checkpoint of other settings, minimodels whose fullmodel was not trained yet, another
        cache than that of the task, or a memory limit that cannot be kept.
    FloatingPointError
        A training loss that is not finite.
    MemoryError
        Memory ran out.
    """
    with task.at_work():
        images = grey_images(task.stimuli, crop=task.crop, size=task.size)
        train_one = _minimodels if task.condition.model == MINIMODEL else _fullmodel
        return (_cnn_vit if task.vit else train_one)(task, images, progress)


def _loop(task: BaselineTask) -> LoopSettings:
    return LoopSettings(
        batch_size=task.settings.batch_size,
        patience=task.settings.patience,
        start_counts=False,
        seed=task.condition.seed,
        what=task.label,
        remedy=task.lower,
    )


def _fullmodel(
    task: BaselineTask, images: GreyImages, progress: _Progress | None
) -> FittedCondition:
    model = FullModel(
        task.settings,
        input_size=task.size,
        neurons=task.recording.neurons,
        seed=task.condition.seed,
    )
    return _descended(task, images, model, partial(images.batch, device=task.device), progress)


def _cnn_vit(task: BaselineTask, images: GreyImages, progress: _Progress | None) -> FittedCondition:
    held = held_tokens(task)
    record = _record(task, images)
    grid = recorded_grid(record)
    mean, deviation = held.measured(task.recording.image_ids[~task.recording.validation])
    model = CnnVit(
        task.settings,
        grid=grid,
        mean=mean,
        deviation=deviation,
        neurons=task.recording.neurons,
        seed=task.condition.seed,
    )

    def inputs(ids: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        return images.batch(ids, device=task.device), held.batch(ids, device=task.device)

    return _descended(task, images, model, inputs, progress, places=grid.places)


def _descended(
    task: BaselineTask,
    images: GreyImages,
    model: CoreNetwork,
    inputs: Inputs,
    progress: _Progress | None,
    *,
    places: Places | None = None,
) -> FittedCondition:
    """A core and its readouts, trained on their inputs by image ids."""
    model = model.to(task.device)
    network = RecordedNetwork(
        model, inputs, task.recording, scale=task.scale, pass_size=PREDICT_BATCH
    )
    descent = Descent(network, model.phases(task.settings), _loop(task))
    trained = train(descent, checkpoint=task.checkpoint, progress=progress)
    keep_weights(trained_weights(model), task.weights_path)
    return _scored(task, images, model.readout, trained, network.predict, places=places)


def _minimodels(
    task: BaselineTask, images: GreyImages, progress: _Progress | None
) -> FittedCondition:
    training = MinimodelTraining(
        images,
        normalise(task.recording, task.scale),
        _first_layer(task),
        task.settings,
        _loop(task),
        device=task.device,
    )
    trained = train(training, checkpoint=task.checkpoint, progress=progress)
    best = training.population
    kept = {WEIGHTS: best.weights, KERNELS: training.kernels, **best.running}
    keep_weights(kept, task.weights_path)
    named = training.minimodels.named(best.weights)
    names = ("row_weights", "column_weights", "channel_weights")
    readout = Readout(**{name: named[name] for name in names}, bias=named["bias"][:, 0])
    return _scored(
        task, images, readout, trained, partial(training.predict, best.weights, best.running)
    )


def _first_layer(task: BaselineTask) -> torch.Tensor:
    """The trained fullmodel's first convolution."""
    path = task.fullmodel.weights_path
    if not path.exists():
        raise UserError(
            f"{path}: no trained fullmodel whose first layer the minimodels could share: name "
            '"cnn_fullmodel" in baseline.models, too'
        )
    refuse(task.run, saved_damage(task.run, task.fullmodel.condition))
    with safetensors.safe_open(path, framework="pt") as weights:
        kernels: torch.Tensor = weights.get_tensor("core.conv.weight")
    return kernels


def _scored(
    task: BaselineTask,
    images: GreyImages,
    readout: Readout,
    trained: Trained,
    rates: Callable[[NDArray[np.int64]], NDArray[np.float32]],
    *,
    places: Places | None = None,
) -> FittedCondition:
    """The outcome, in the recording's units."""
    recording, scale, vit = task.recording, task.scale, task.vit
    return task.fitted(
        fitted_readouts(readout, scale=scale, curve=trained.curve),
        test=rates(recording.test_image_ids) * scale,
        validation=rates(recording.image_ids[recording.validation]) * scale,
        seconds=trained.seconds,
        weights=None if vit is None else vit.weights,
        cache_key=None if vit is None else vit.cache_key,
        places=places,
        extra={"network": _record(task, images)},
    )


def _record(task: BaselineTask, images: GreyImages) -> dict[str, Any]:
    """What the network is built from again, of types that JSON has."""
    return {
        "stage": "baseline",
        "settings": asdict(task.settings),
        "image_shape": list(task.stimuli.image_shape),
        **asdict(images.preprocessing),
        **({} if task.vit is None else {"vit": task.vit.record()}),
    }


def cnn_network(
    run: Path,
    readouts: SavedReadouts,
    key: str,
    record: Mapping[str, Any],
    *,
    weights: str | None,
    device: str,
) -> FromPixels:
    """The network of a CNN; see `stages.stage.Stage.network`."""
    settings = BaselineSettings(**record["settings"])
    see = GreyPreprocessing(
        crop=tuple(record["crop"]),
        size=tuple(record["size"]),
        mean=record["mean"],
        std=record["std"],
    )
    kept = safetensors.torch.load_file(kept_path(run, readouts.condition.slug, key))
    if "vit" in record:
        return cnn_vit_from_pixels(
            record, settings, kept, see, scale=readouts.scale, weights=weights, device=device
        )
    network: nn.Module
    if readouts.condition.model == MINIMODEL:
        if KERNELS not in kept:
            raise UserError(
                f"{readouts.condition.slug}: its file has no first layer; train it again"
            )
        network = MinimodelPopulation(Minimodels(settings, see.size), **kept)
    else:
        neurons = np.arange(len(readouts.bias))
        network = FullModel(settings, input_size=see.size, neurons=neurons, seed=0)
        restore(network, kept)
    return FromPixels(see, network, scale=readouts.scale).to(device)
