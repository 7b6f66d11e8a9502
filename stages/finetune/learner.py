"""Training of a partly unfrozen model on its data, and what its readouts read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.optim import AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR

from stages.finetune.compiled import compiled
from stages.finetune.model import TunedViT
from stages.finetune.settings import PROTOCOLS
from stages.finetune.task import FinetuneTask
from stages.readouts.readout import Readout, Readouts, predicted_at_once
from stages.training.descent import Descent, Phase
from stages.training.epoch import Epoch
from stages.training.loop import LoopSettings, Trained, batches, train
from stages.training.network import Inputs, RecordedNetwork

#: Images per pass of a ViT where nothing is trained, at most.
IMAGES_PER_PASS = 128


@dataclass(frozen=True, kw_only=True)
class Penalty:
    """What each neuron's weights add to the loss of one trial.

    Parameters
    ----------
    factor : tensor of shape (n_neurons,)
        Of the squared weights.
    of : str
        "factors" squares row, column and channel weights each for themselves and adds them,
        "product" squares the weights of all patches and channels, which the three multiply to.
    """

    factor: torch.Tensor
    of: Literal["factors", "product"]

    def __call__(self, readout: Readout) -> torch.Tensor:
        """The penalty of every neuron, tensor of shape (n_neurons,)."""
        if self.of == "factors":
            return self.factor * readout.squared_norms()
        weights = (readout.row_weights, readout.column_weights, readout.channel_weights)
        squares = [w.square().sum(dim=1) for w in weights]
        return self.factor * squares[0] * squares[1] * squares[2]


def tune(
    model: TunedViT,
    inputs: Inputs,
    task: FinetuneTask,
    frozen: Readouts,
    *,
    penalty: Penalty,
    progress: Callable[[Epoch], None] | None = None,
) -> Trained:
    """Train a model; it then holds the weights of the best epoch, or those it started with.

    Model, inputs and penalty are on one device.

    Parameters
    ----------
    frozen : Readouts
        That the model starts from.
    progress : callable, optional
        Called after every epoch.
    """
    settings = task.settings
    rows, columns, _ = frozen.grid
    network = RecordedNetwork(
        model,
        inputs,
        task.recording,
        scale=frozen.scale,
        pass_size=min(IMAGES_PER_PASS, predicted_at_once(rows, columns, task.recording.n_neurons)),
        micro_batch=settings.micro_batch,
        penalty=penalty,
        forward=compiled(model, what="finetune.compile: the model") if settings.compile else None,
    )
    groups = [
        {
            "params": model.backbone_parameters(),
            "lr": settings.backbone_rate,
            "weight_decay": settings.backbone_decay,
        },
        {
            "params": model.readout_parameters(),
            "lr": settings.readout_rate,
            "weight_decay": PROTOCOLS[settings.protocol].readout_decay,
        },
    ]
    phase = Phase(
        epochs=settings.epochs,
        optimizer=partial(AdamW, [group for group in groups if group["params"]]),
        schedule=partial(CosineAnnealingLR, T_max=settings.epochs, eta_min=settings.final_rate),
    )
    loop = LoopSettings(
        batch_size=settings.batch_size,
        patience=settings.patience,
        clip_norm=settings.clip_norm,
        seed=task.condition.seed,
        start_counts=PROTOCOLS[settings.protocol].start_counts,
        what=f"finetune {task.label}",
        remedy=f"lower finetune.micro_batch (now {settings.pass_size}), "
        "which changes no result but rounding",
    )
    return train(Descent(network, [phase], loop), checkpoint=task.checkpoint, progress=progress)


@dataclass(frozen=True)
class ReadTokens:
    """What a model's readouts read of some images, computed when it is needed.

    Parameters
    ----------
    ids : array of shape (n_images,)
    grid : tuple of int
        Rows, columns and channels.
    """

    model: TunedViT
    inputs: Inputs
    ids: NDArray[np.int64]
    grid: tuple[int, int, int]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Images, rows, columns, channels."""
        return len(self.ids), *self.grid

    @torch.inference_mode()
    def read(self, first: int, last: int) -> torch.Tensor:
        """Tokens of the images first <= image < last, on the CPU."""
        ids = self.ids[first:last]
        parts = batches(ids, IMAGES_PER_PASS)
        return torch.cat([self.model.tokens(self.inputs(part)).cpu() for part in parts])
