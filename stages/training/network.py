"""A network that ends in the one readout, with the trials of a recording."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from stages.readouts.readout import Readout, Readouts, poisson_loss, rate
from stages.recordings.recording import Recording
from stages.scores import mean_score
from stages.training.descent import Losses, Network
from stages.training.epoch import Epoch
from stages.training.loop import batches

#: Takes image ids, array of shape (n,), and gives what a network takes, on its device: a tensor, or
#: several for several networks.
Inputs = Callable[[NDArray[np.int64]], Any]


class ReadoutNetwork(nn.Module):
    """A module with readouts, which gives their linear predictor."""

    readout: Readout


class RecordedNetwork(Network):
    """A network to be trained on what a recording says of some images.

    Parameters
    ----------
    module : ReadoutNetwork
        On its device.
    inputs : Inputs
        Of the module's kind and on its device.
    recording : Recording
        Responses as recorded.
    scale : array of shape (n_neurons,)
        What they are divided by.
    pass_size : int
        Images per pass where nothing is trained.
    micro_batch : int, optional
        Trials per pass where something is; a whole batch by default.
    penalty : callable, optional
        What the readouts' weights add to the loss of one trial, tensor of shape (n_neurons,).
    forward : callable, optional
        The module's forward pass where it is trained, if that is another one.
    """

    module: ReadoutNetwork

    def __init__(
        self,
        module: ReadoutNetwork,
        inputs: Inputs,
        recording: Recording,
        *,
        scale: NDArray[np.float32],
        pass_size: int,
        micro_batch: int | None = None,
        penalty: Callable[[Readout], torch.Tensor] | None = None,
        forward: Callable[[Any], torch.Tensor] | None = None,
    ) -> None:
        self.module, self.inputs, self.penalty = module, inputs, penalty
        self.pass_size, self.micro_batch = pass_size, micro_batch
        self._forward: Callable[[Any], torch.Tensor] = forward or module
        validation = recording.validation
        # Normalised batch by batch: responses of all trials are large, and may lie in a file.
        self.responses, self.scale = recording.responses, scale
        self.train_trials = np.flatnonzero(~validation)
        self.train_ids = recording.image_ids[self.train_trials]
        self.validation_ids = recording.image_ids[validation]
        self.validation_responses = recording.responses[validation] / scale
        self.n_trials, self.n_neurons = len(self.train_trials), recording.n_neurons
        self.incomplete = bool(np.isnan(recording.spread.mean).any()) or recording.incomplete

    @cached_property
    def n_responses(self) -> int:
        """Responses to the training trials that are not missing."""
        if not self.incomplete:
            return self.n_trials * self.n_neurons
        return sum(int(np.isfinite(self.responses[trial]).sum()) for trial in self.train_trials)

    def losses(self, rows: NDArray[np.int64]) -> Iterator[Losses]:
        """Poisson loss, summed over the batch and averaged over neurons, and the penalty."""
        self.module.train()
        for part in batches(rows, self.micro_batch or len(rows)):
            z = self._forward(self.inputs(self.train_ids[part]))
            recorded = self.responses[self.train_trials[part]]
            responses = torch.from_numpy(recorded / self.scale).to(z.device)
            objective = poisson = poisson_loss(z, responses).sum(dim=0)
            if self.penalty is not None:
                objective = poisson + len(part) * self.penalty(self.module.readout)
            yield Losses(objective.mean(), poisson.sum())

    def project(self) -> None:
        """Keep row and column weights from being negative."""
        self.module.readout.project()

    def score(self) -> float:
        """Mean variance explained on the validation trials."""
        return mean_score(self.validation_responses, self.predict(self.validation_ids))

    @torch.inference_mode()
    def predict(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Rates for some images in units of the scale, array of shape (n_images, n_neurons)."""
        self.module.eval()
        rates = [rate(self.module(self.inputs(part))) for part in batches(ids, self.pass_size)]
        return torch.cat([r.cpu() for r in rates]).numpy()


def fitted_readouts(
    readout: Readout, *, scale: NDArray[np.float32], curve: list[Epoch]
) -> Readouts:
    """Trained readouts as they are saved."""
    row, column, channel, bias = (p.detach().cpu().numpy() for p in readout.parameters())
    return Readouts(
        row_weights=row,
        column_weights=column,
        channel_weights=channel,
        bias=bias,
        scale=scale,
        curve=curve,
    )
