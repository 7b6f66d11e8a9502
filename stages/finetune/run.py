"""One fine-tuning condition: from a saved frozen readout to tuned weights and scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from cache import CacheError, differences, open_cache
from stages.backbones.backbone import Backbone, create_backbone
from stages.costs import MemoryLimit
from stages.executors.resources import cpu_threads
from stages.finetune.cost import task_size, tuning_memory
from stages.finetune.inputs import BlockTokens, HeldTokens, Inputs, PreparedImages
from stages.finetune.learner import Penalty, ReadTokens, Tuning, tune, tuned_readouts
from stages.finetune.model import TunedViT
from stages.finetune.settings import PROTOCOLS
from stages.finetune.task import FinetuneTask, first_tuned_block, starting_block
from stages.readouts.readout import Readouts, predict
from stages.readouts.saved import FittedCondition, load_readouts, saved_penalty
from stages.scores import score, variance_explained
from stages.settings import readable
from stages.stimuli.preprocessing import Preprocessing
from stages.tokens.random_access import hold
from stages.tokens.tokens import IN_MEMORY
from stages.training.checkpoints import keep_weights
from stages.training.epoch import Epoch


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
        A cache or weights that do not belong to the frozen readouts, a checkpoint of other
        settings, or a memory limit that cannot be kept.
    """
    with cpu_threads(task.settings.threads):
        return _finetune_condition(task, progress)


def _finetune_condition(
    task: FinetuneTask, progress: Callable[[Epoch], None] | None
) -> FittedCondition:
    condition, recording, settings = task.condition, task.recording, task.settings
    if task.device == "cpu" and task.memory_limit is not None:
        MemoryLimit(task.memory_limit, f"a worker has {readable(task.memory_limit)}").require(
            tuning_memory(task_size(task)),
            condition.slug,
            lower="lower finetune.micro_batch, or choose fewer recording.neurons",
        )
    frozen = load_readouts(task.run, **task.frozen.identity())
    model, inputs = _untrained(task, frozen)
    tuning = Tuning(
        model,
        inputs,
        recording,
        scale=frozen.scale,
        penalty=_penalty(task),
        micro_batch=settings.micro_batch,
        compile=settings.compile,
    )
    trained = tune(
        tuning,
        settings,
        readout_decay=PROTOCOLS[settings.protocol].readout_decay,
        seed=condition.seed,
        what=f"finetune {condition.tuning} at block {condition.block}",
        checkpoint=task.checkpoint,
        progress=progress,
    )
    readouts = tuned_readouts(model, frozen.scale, trained.curve)
    validation = recording.validation
    test_predictions, validation_predictions = (
        predict(readouts, ReadTokens(model, inputs, ids), task.device)
        for ids in (recording.test_image_ids, recording.image_ids[validation])
    )
    parameters = dict(model.named_parameters())
    keep_weights({name: parameters[name] for name in model.trained()}, task.tuned_path)
    explained = variance_explained(recording.responses[validation], validation_predictions)
    return FittedCondition(
        condition=condition,
        key=task.key,
        inputs=task.inputs,
        readouts=readouts,
        columns=score(recording, test_predictions) | {"val_varexp": explained},
        test_image_ids=recording.test_image_ids,
        test_predictions=test_predictions,
        weights=task.weights_label,
        cache_key=task.cache_key,
        seconds=trained.seconds,
        extra={"start": task.start, "trained": model.trained()},
    )


def _untrained(task: FinetuneTask, frozen: Readouts) -> tuple[TunedViT, Inputs]:
    """The model as training finds it, and what it is fed with."""
    condition = task.condition
    assert condition.block is not None
    backbone = create_backbone(task.backbone, input_size=task.input_size, device=task.device)
    _check_weights(backbone, task.weights)
    model = TunedViT(
        backbone,
        frozen.module(),
        block=condition.block,
        last=task.last,
        tokens="cls" if condition.tokens == "cls" else "patch",
        start=task.start,
        precision=task.precision,
    )
    return model.to(task.device), _inputs(task, backbone)


def _inputs(task: FinetuneTask, backbone: Backbone) -> Inputs:
    if task.start == "images":
        assert task.images is not None
        return PreparedImages(
            stimuli=task.images.stimuli,
            preprocessing=Preprocessing(
                crop=task.images.crop,
                input_size=task.input_size,
                mean=backbone.mean,
                std=backbone.std,
            ),
            device=task.device,
        )
    assert task.condition.block is not None
    block = starting_block(first_tuned_block(task.last, task.condition.block))
    assert block is not None
    source = BlockTokens(open_cache(task.cache_path), block, task.recording.all_image_ids)
    return HeldTokens(
        ids=source.ids,
        rows=hold(source, in_memory=_fits(task, source.stored_bytes)),
        device=task.device,
    )


def _fits(task: FinetuneTask, tokens: int) -> bool:
    """Whether the memory holds so many bytes of tokens, too."""
    if task.memory_limit is None:
        return True
    if task.device != "cpu":
        return tokens <= IN_MEMORY * task.memory_limit
    return tuning_memory(task_size(task)) + tokens <= task.memory_limit


def _penalty(task: FinetuneTask) -> Penalty:
    """The protocol's, else each neuron's own from its frozen fit; per trial."""
    n_neurons = task.recording.n_neurons
    fixed = PROTOCOLS[task.settings.protocol].penalty
    if fixed is not None:
        return _shared_penalty(fixed / task.settings.batch_size, n_neurons)
    own = saved_penalty(task.run, task.frozen)
    if own is not None:
        return Penalty(factor=torch.from_numpy(own), of="product")
    assert task.penalty is not None
    return _shared_penalty(task.penalty, n_neurons)


def _shared_penalty(factor: float, n_neurons: int) -> Penalty:
    return Penalty(factor=torch.full((n_neurons,), factor), of="factors")


def _check_weights(backbone: Backbone, weights: Mapping[str, Any]) -> None:
    """Refuse a backbone other than the one whose tokens the frozen readouts were fitted to."""
    differing = differences(
        {"backbone": {"weights": dict(backbone.weights.identity)}},
        {"backbone": {"weights": dict(weights)}},
    )
    if differing:
        raise CacheError(
            f"the frozen readouts were fitted to tokens of another backbone "
            f"({'; '.join(differing)}): correct backbone.weights, or extract and fit again"
        )
