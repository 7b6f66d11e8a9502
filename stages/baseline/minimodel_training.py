"""Training of the minimodels side by side: each neuron has its own schedule and early stopping.

All neurons see the same batches, and whatever is random for one follows from the seed and from who
it is: training a neuron alone gives what training it among thousands does, up to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stages.baseline.cost import CPU_ELEMENTS
from stages.baseline.images import PREDICT_BATCH, GreyImages
from stages.baseline.minimodel import Minimodels, Pooled, Tensors, first_layer
from stages.baseline.minimodel_population import Active, Population, changed
from stages.baseline.per_neuron_adamw import adamw_step
from stages.baseline.settings import BaselineSettings
from stages.executors.reports import report_part
from stages.readouts.readout import poisson_loss, rate
from stages.recordings.recording import Recording
from stages.scores import variance_explained
from stages.training.loop import LoopSettings, batches, check_finite, trial_order

#: Values of one activation (neuron, image, place, channel) that are computed at a time on a GPU,
#: where 8 such activations live at a time: 4 GiB.
GPU_ELEMENTS = 2**27


@dataclass
class MinimodelTraining:
    """Minimodels with their data: a learner for the training loop.

    Parameters
    ----------
    images : GreyImages
        The stack.
    recording : Recording
        Responses divided by each neuron's training standard deviation.
    kernels : tensor of shape (channel, 1, k, k)
        The frozen first layer.
    settings : BaselineSettings
        The protocol.
    loop : LoopSettings
        Batch size, patience, seed, and what messages say.
    device : str
        "cpu" or a CUDA device.
    """

    images: GreyImages
    recording: Recording
    kernels: torch.Tensor
    settings: BaselineSettings
    loop: LoopSettings
    device: str = "cpu"

    def __post_init__(self) -> None:
        self.loop = replace(self.loop, slower="lower baseline.learning_rate")
        self.minimodels = Minimodels(self.settings, self.images.size)
        self.kernels = self.kernels.to(self.device)
        recording, validation = self.recording, self.recording.validation
        self.train_ids = recording.image_ids[~validation]
        self.validation_ids = recording.image_ids[validation]
        self.r_train = torch.from_numpy(recording.responses[~validation])
        self.r_validation = recording.responses[validation]
        #: Each neuron's own training trials.
        self.n_responses = self.r_train.isfinite().sum(dim=0).clamp(min=1).to(self.device)
        self.epochs = torch.tensor(self.settings.epochs, device=self.device)

    @property
    def finished(self) -> bool:
        """Whether no neuron is in training any more."""
        return not len(self.population.active)

    def begin(self, state: dict[str, Any] | None) -> None:
        """Put all neurons in training, or those that still were in a saved state."""
        if state is not None:
            self.population = Population.from_plain(state, self.device)
            return
        neurons = self.recording.neurons
        weights = self.minimodels.initial(neurons, seed=self.loop.seed)
        running = self.minimodels.initial_running(len(neurons))
        self.population = Population.start(
            *changed((weights, running), lambda tensor: tensor.to(self.device))
        )
        self.population.next_phases(self.epochs, self.loop.patience)

    def epoch(self, number: int) -> tuple[float, float]:
        """Train the neurons in training for one epoch; means of loss and score over all."""
        active = self.population.active
        losses = self._train_epoch(active, number)
        rates = self.predict(active.weights, active.running, self.validation_ids)
        responses = self.r_validation[:, active.who.cpu().numpy()]
        scores = torch.from_numpy(variance_explained(responses, rates))
        self.population.record(losses, scores.to(self.device, torch.float32))
        self.population.next_phases(self.epochs, self.loop.patience)
        return self.population.means()

    def state(self) -> dict[str, Any]:
        """The population as tensors in dicts and lists."""
        return self.population.plain()

    @torch.inference_mode()
    def predict(
        self, weights: torch.Tensor, running: Tensors, ids: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Rates of the given neurons for images of the stack, array of shape (n, n_neurons)."""
        rates = np.empty((len(ids), len(weights)), dtype=np.float32)
        for first in range(0, len(ids), PREDICT_BATCH):
            part = slice(first, first + PREDICT_BATCH)
            pooled = self._pooled(ids[part])
            for block in self._blocks(len(weights), PREDICT_BATCH):
                stored = {name: tensor[block] for name, tensor in running.items()}
                z = self.minimodels.forward(weights[block], stored, pooled, training=False)
                rates[part, block] = rate(z).cpu().numpy()
        return rates

    def _train_epoch(self, active: Active, number: int) -> torch.Tensor:
        """One pass over the training trials; mean Poisson loss per trial, shape (n_active,)."""
        n_trials = len(self.train_ids)
        order = trial_order(n_trials, seed=self.loop.seed, epoch=number)
        rates = torch.tensor([*self.settings.learning_rates, 0.0], device=self.device)
        learning_rates, decays = rates[active.phase], self._decays()
        size = self.loop.batch_size
        blocks = [(block, active.take(block)) for block in self._blocks(len(active), size)]
        sums: list[torch.Tensor] = []
        for done, trials in enumerate(batches(order, size)):
            report_part(done * size / n_trials)
            pooled = self._pooled(self.train_ids[trials])
            responses = self.r_train[torch.from_numpy(trials)].to(self.device)
            responses = responses[:, active.who]
            losses = torch.empty(len(active), device=self.device)
            for block, neurons in blocks:
                weights = neurons.weights.requires_grad_()
                z = self.minimodels.forward(weights, neurons.running, pooled, training=True)
                poisson = poisson_loss(z, responses[:, block]).sum(dim=0)
                objective = poisson + self.settings.minimodel.sparsity * self._sparsity(weights)
                (gradients,) = torch.autograd.grad(objective.sum(), weights)
                weights.requires_grad_(False)
                adamw_step(
                    weights,
                    gradients,
                    neurons.moments,
                    learning_rates=learning_rates[block],
                    decays=decays,
                )
                self._project(weights)
                losses[block] = poisson.detach()
            sums.append(losses)
        stacked, who = torch.stack(sums), active.who.cpu().numpy()
        check_finite(stacked, self.loop, number, neurons=self.recording.neurons[who])
        return stacked.sum(dim=0) / self.n_responses[active.who]

    def _pooled(self, ids: NDArray[np.int64]) -> Pooled:
        return first_layer(self.images.batch(ids, device=self.device), self.kernels)

    def _sparsity(self, weights: torch.Tensor) -> torch.Tensor:
        """|Wc|_1^2 / |Wc|_2^2 of each neuron: 1 where one channel is used, at most all."""
        channels = self.minimodels.named(weights)["channel_weights"]
        squares = channels.square().sum(dim=1).clamp(min=torch.finfo(torch.float32).tiny)
        return channels.abs().sum(dim=1).square() / squares

    @torch.no_grad()
    def _project(self, weights: torch.Tensor) -> None:
        """Set negative row and column weights to zero."""
        named = self.minimodels.named(weights)
        named["row_weights"].clamp_(min=0)
        named["column_weights"].clamp_(min=0)

    def _decays(self) -> torch.Tensor:
        """Weight decay of each of a neuron's weights."""
        settings = self.settings
        decays = torch.full((1, sum(self.minimodels.sizes.values())), settings.core_decay)
        named = self.minimodels.named(decays)
        for name in ("row_weights", "column_weights"):
            named[name].fill_(settings.space_decay)
        named["channel_weights"].fill_(settings.minimodel.channel_decay)
        named["bias"].fill_(0)
        return decays[0].to(self.device)

    def _blocks(self, n_neurons: int, batch: int) -> Iterator[slice]:
        """Neurons that are computed at a time; how many is no matter of the memory there is."""
        rows, columns = self.minimodels.grid
        most = CPU_ELEMENTS if self.device == "cpu" else GPU_ELEMENTS
        step = max(1, most // (batch * rows * columns * self.minimodels.channels))
        for first in range(0, n_neurons, step):
            yield slice(first, min(n_neurons, first + step))
