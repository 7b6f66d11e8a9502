"""Training of the CNN fullmodel, and its predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from stages.baseline.fullmodel import FullModel
from stages.baseline.images import GreyImages
from stages.baseline.settings import BaselineSettings
from stages.readouts.readout import Epoch, poisson_loss, rate
from stages.scores import mean_score
from stages.training.checkpoints import Checkpoint
from stages.training.loop import LoopSettings, Losses, Phase, Trained, train

#: Images per pass where nothing is trained.
PREDICT_BATCH = 100


class FullModelTraining:
    """The fullmodel with its data: what the training loop asks for.

    Parameters
    ----------
    model : FullModel
        On its device.
    images : GreyImages
        The stack.
    train, validation : array of shape (n_trials,)
        Rows of the stack that the trials show.
    r_train, r_validation : array of shape (n_trials, n_neurons)
        float32, divided by each neuron's training standard deviation.
    """

    def __init__(
        self,
        model: FullModel,
        images: GreyImages,
        *,
        train: NDArray[np.int64],
        validation: NDArray[np.int64],
        r_train: NDArray[np.float32],
        r_validation: NDArray[np.float32],
    ) -> None:
        self.module = model
        self.images = images
        self.train = train
        self.validation = validation
        self.r_train = torch.from_numpy(r_train)
        self.r_validation = r_validation
        self.n_trials, self.n_neurons = r_train.shape

    def losses(self, rows: NDArray[np.int64]) -> Iterator[Losses]:
        """Poisson loss, summed over the batch and averaged over neurons."""
        self.module.train()
        device = self.module.readout.bias.device
        z = self.module(self.images.batch(self.train[rows], device=device))
        responses = self.r_train[torch.from_numpy(rows)].to(device)
        poisson = poisson_loss(z, responses).sum(dim=0)
        yield Losses(poisson.mean(), poisson.sum())

    def project(self) -> None:
        """Keep row and column weights from being negative."""
        self.module.readout.project()

    def score(self) -> float:
        """Mean variance explained on the validation trials."""
        return mean_score(self.r_validation, self.predict(self.validation))

    @torch.inference_mode()
    def predict(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Rates for images of the stack, array of shape (n, n_neurons)."""
        self.module.eval()
        device = self.module.readout.bias.device
        batches = [
            rows[first : first + PREDICT_BATCH] for first in range(0, len(rows), PREDICT_BATCH)
        ]
        rates = [rate(self.module(self.images.batch(batch, device=device))) for batch in batches]
        return torch.cat([r.cpu() for r in rates]).numpy()


def train_fullmodel(
    training: FullModelTraining,
    settings: BaselineSettings,
    loop: LoopSettings,
    *,
    checkpoint: Checkpoint | None = None,
    progress: Callable[[Epoch], None] | None = None,
) -> Trained:
    """Train in stages of falling learning rate; the model then holds the best epoch's weights."""
    phases = [
        Phase(epochs=epochs, optimizer=partial(training.module.optimizer, settings, learning_rate))
        for epochs, learning_rate in zip(settings.epochs, settings.learning_rates, strict=True)
    ]
    return train(training, phases, loop, checkpoint=checkpoint, progress=progress)
