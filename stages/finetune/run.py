"""One fine-tuning condition: from a saved frozen readout to tuned weights and scores."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from cache import CacheError, UserError, differences
from stages.backbones.backbone import Backbone, create_backbone
from stages.backbones.families import refuse_layers
from stages.finetune.inputs import BlockTokens
from stages.finetune.learner import Penalty, ReadTokens, tune
from stages.finetune.model import TunedViT
from stages.finetune.settings import PROTOCOLS
from stages.finetune.task import FinetuneTask, first_tuned_block, starting_block
from stages.readouts.manifest import is_saved
from stages.readouts.readout import Readouts, predict
from stages.readouts.saved import FittedCondition, saved_penalty, saved_readouts
from stages.stimuli.preprocessing import Preprocessing
from stages.tokens.cached import open_planned
from stages.tokens.random_access import hold
from stages.tokens.tokens import IN_MEMORY
from stages.training.checkpoints import keep_weights
from stages.training.epoch import Epoch
from stages.training.network import Inputs, fitted_readouts


def finetune_condition(
    task: FinetuneTask, *, progress: Callable[[Epoch], None] | None = None
) -> FittedCondition:
    """Tune one condition, keep its trained weights, and score it.

    Parameters
    ----------
    progress : callable, optional
        Called after every epoch.

    Raises
    ------
    UserError
        Other readouts than the task's, a cache or weights that do not belong to them, a checkpoint
        of other settings, or a memory limit that cannot be kept.
    """
    with task.at_work():
        if not is_saved(task.run, task.frozen, task.frozen_key):
            raise UserError(
                f"{task.run} holds other readouts of {task.frozen.slug} than those to start from: "
                "another run has written there; run again"
            )
        # The validation trials choose among the epochs, and must not have been fitted before.
        frozen = saved_readouts(task.run, task.frozen).held_out
        model, inputs = _untrained(task, frozen)
        penalty = _penalty(task)
        trained = tune(model, inputs, task, frozen, penalty=penalty, progress=progress)
        parameters = dict(model.named_parameters())
        readouts = fitted_readouts(model.readout, scale=frozen.scale, curve=trained.curve)
        recording = task.recording
        test, validation = (
            predict(readouts, ReadTokens(model, inputs, ids, frozen.grid), task.device)
            for ids in (recording.test_image_ids, recording.image_ids[recording.validation])
        )
        keep_weights({name: parameters[name] for name in model.trained()}, task.weights_path)
        return task.fitted(
            readouts,
            test=test,
            validation=validation,
            seconds=trained.seconds,
            weights=task.weights_label,
            cache_key=task.cache_key,
            places=task.shape.blocks[task.block].places,
            extra={
                "network": {"stage": "finetune", "precision": task.precision, **task.network},
                "start": task.start,
                "trained": model.trained(),
                "kept_start": np.array_equal(readouts.channel_weights, frozen.channel_weights),
            },
        )


def _untrained(task: FinetuneTask, frozen: Readouts) -> tuple[TunedViT, Inputs]:
    """The model as training finds it, and what it is fed with."""
    rescale = task.settings.rope_rescale
    settings = task.backbone if rescale is None else task.backbone.rescaling(rescale)
    backbone = create_backbone(settings, input_size=task.input_size, device=task.device)
    if backbone.family.layered is None:
        # Plans believe what the cache has on record.
        raise refuse_layers("finetune", settings.name, "drop [finetune]")
    differing = differences(
        {"backbone": {"weights": dict(backbone.weights.identity)}},
        {"backbone": {"weights": dict(task.weights)}},
    )
    if differing:
        raise CacheError(
            f"the frozen readouts were fitted to tokens of another backbone "
            f"({'; '.join(differing)}): correct backbone.weights, or extract and fit again"
        )
    model = TunedViT(
        backbone,
        frozen.module(),
        block=task.block,
        last=task.last,
        tokens="cls" if task.condition.tokens == "cls" else "patch",
        start=task.start,
        precision=task.precision,
        rescaled=rescale is not None,
    )
    return model.to(task.device), _inputs(task, backbone)


def _inputs(task: FinetuneTask, backbone: Backbone) -> Inputs:
    if task.start == "images":
        stimuli, crop = task.stimuli, task.crop
        assert stimuli is not None and crop is not None
        preprocess = Preprocessing(
            crop=crop, input_size=task.input_size, mean=backbone.mean, std=backbone.std
        )
        return lambda ids: preprocess(stimuli.read(ids), device=task.device)
    start = starting_block(first_tuned_block(task.last, task.block))
    assert start is not None
    ids = task.recording.all_image_ids
    cache = open_planned(task.cache_path, key=task.cache_key, images=ids, sha256=task.images_sha256)
    source = BlockTokens(cache.block(start), ids, backbone.shape.kinds())
    limit, tokens = task.memory_limit, source.stored_bytes
    if task.device == "cpu":
        fits = limit is None or task.needed_memory + tokens <= limit
    else:
        fits = limit is None or tokens <= IN_MEMORY * limit
    rows = hold(source, in_memory=fits)
    return lambda ids: rows.take(np.searchsorted(source.ids, ids)).to(task.device)


def _penalty(task: FinetuneTask) -> Penalty:
    """The protocol's, else each neuron's own from its frozen fit; per trial."""
    shared, own = PROTOCOLS[task.settings.protocol].penalty, None
    if shared is not None:
        shared /= task.settings.batch_size
    else:
        shared, own = task.penalty, saved_penalty(task.run, task.frozen)
    if own is not None:
        return Penalty(factor=torch.from_numpy(own).to(task.device), of="product")
    assert shared is not None
    factor = torch.full((task.recording.n_neurons,), shared, device=task.device)
    return Penalty(factor=factor, of="factors")
