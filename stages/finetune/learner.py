"""Training of a partly unfrozen model on its data, and the readouts that come out of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.optim import AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR

from stages.finetune.compiled import Compiled
from stages.finetune.inputs import Inputs
from stages.finetune.model import TunedViT
from stages.finetune.settings import FinetuneSettings
from stages.readouts.readout import Readout, Readouts, poisson_loss, predicted_at_once, rate
from stages.recordings.recording import Recording
from stages.scores import mean_score
from stages.training.checkpoints import Checkpoint
from stages.training.descent import Descent, Losses, Network, Phase
from stages.training.epoch import Epoch
from stages.training.loop import LoopSettings, Trained, batches, train

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


class Tuning(Network):
    """A model to be tuned with its data.

    Parameters
    ----------
    model : TunedViT
        On its device.
    inputs : Inputs
        Of the model's kind and on its device.
    recording : Recording
        Responses as recorded.
    scale : array of shape (n_neurons,)
        What they are divided by.
    penalty : Penalty
        Of the readouts.
    micro_batch : int, optional
        Trials per pass; a whole batch by default.
    compile : bool
        Whether to compile the forward pass.
    """

    module: TunedViT

    def __init__(
        self,
        model: TunedViT,
        inputs: Inputs,
        recording: Recording,
        *,
        scale: NDArray[np.float32],
        penalty: Penalty,
        micro_batch: int | None = None,
        compile: bool = False,
    ) -> None:
        self.module = model
        self.inputs = inputs
        self.micro_batch = micro_batch
        self.penalty = replace(penalty, factor=penalty.factor.to(model.readout.bias.device))
        validation = recording.validation
        # Normalised batch by batch: responses of all trials are large, and may lie in a file.
        self.responses, self.scale = recording.responses, scale
        self.train_trials = np.flatnonzero(~validation)
        self.train_ids = recording.image_ids[self.train_trials]
        self.validation_ids = recording.image_ids[validation]
        self.validation_responses = recording.responses[validation] / scale
        self.n_trials, self.n_neurons = len(self.train_trials), recording.n_neurons
        self._forward: Callable[[torch.Tensor], torch.Tensor] = model
        if compile:
            self._forward = Compiled(model, what="finetune.compile: the model")

    def losses(self, rows: NDArray[np.int64]) -> Iterator[Losses]:
        """Poisson loss, summed over the batch and averaged over neurons, and the penalty."""
        for part in batches(rows, self.micro_batch or len(rows)):
            z = self._forward(self.inputs(self.train_ids[part]))
            recorded = self.responses[self.train_trials[part]]
            responses = torch.from_numpy(recorded / self.scale).to(z.device)
            poisson = poisson_loss(z, responses).sum(dim=0)
            objective = (poisson + len(part) * self.penalty(self.module.readout)).mean()
            yield Losses(objective, poisson.sum())

    def project(self) -> None:
        """Keep row and column weights from being negative."""
        self.module.readout.project()

    def score(self) -> float:
        """Mean variance explained on the validation trials."""
        readout = self.module.readout
        grid = readout.row_weights.shape[1], readout.column_weights.shape[1]
        step = min(IMAGES_PER_PASS, predicted_at_once(*grid, self.n_neurons))
        with torch.inference_mode():
            rates = [
                rate(self.module(self.inputs(ids))).cpu()
                for ids in batches(self.validation_ids, step)
            ]
        return mean_score(self.validation_responses, torch.cat(rates).numpy())


def tune(
    tuning: Tuning,
    settings: FinetuneSettings,
    *,
    readout_decay: float,
    seed: int,
    what: str,
    checkpoint: Checkpoint | None = None,
    progress: Callable[[Epoch], None] | None = None,
) -> Trained:
    """Train a model; it then holds the weights of the best epoch, or those it started with."""
    model = tuning.module
    groups = [
        {
            "params": model.backbone_parameters(),
            "lr": settings.backbone_rate,
            "weight_decay": settings.backbone_decay,
        },
        {
            "params": model.readout_parameters(),
            "lr": settings.readout_rate,
            "weight_decay": readout_decay,
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
        seed=seed,
        start_counts=True,
        what=what,
        remedy=f"lower finetune.micro_batch (now {settings.micro_batch or settings.batch_size}), "
        "which changes no result but rounding",
    )
    return train(Descent(tuning, [phase], loop), checkpoint=checkpoint, progress=progress)


def tuned_readouts(model: TunedViT, scale: NDArray[np.float32], curve: list[Epoch]) -> Readouts:
    """A model's readouts as they are saved."""
    names = ("row_weights", "column_weights", "channel_weights", "bias")
    weights = {name: getattr(model.readout, name).detach().cpu().numpy() for name in names}
    return Readouts(**weights, scale=scale, curve=curve)


@dataclass(frozen=True)
class ReadTokens:
    """What a model's readouts read of some images, computed when it is needed.

    Parameters
    ----------
    model : TunedViT
    inputs : Inputs
        Of the model's kind and on its device.
    ids : array of shape (n_images,)
    """

    model: TunedViT
    inputs: Inputs
    ids: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Images, rows, columns, channels."""
        readout = self.model.readout
        weights = (readout.row_weights, readout.column_weights, readout.channel_weights)
        rows, columns, channels = (each.shape[1] for each in weights)
        return len(self.ids), rows, columns, channels

    @torch.inference_mode()
    def read(self, first: int, last: int) -> torch.Tensor:
        """Tokens of the images first <= image < last, on the CPU."""
        ids = self.ids[first:last]
        parts = batches(ids, IMAGES_PER_PASS)
        return torch.cat([self.model.tokens(self.inputs(part)).cpu() for part in parts])
