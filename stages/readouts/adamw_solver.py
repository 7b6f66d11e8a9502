"""The joint protocol as a solver: its settings, needs and cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stages.costs import Cost, Portion
from stages.executors.resources import PROCESS
from stages.readouts.core_speed import RATES
from stages.readouts.sizes import PREDICT_ELEMENTS, VALIDATION_BATCH, FitSize
from stages.readouts.solver_protocol import OnEpoch, Solver
from stages.readouts.solver_settings import AdamWSettings
from stages.spread import PUBLISHED_FLOOR

if TYPE_CHECKING:
    from stages.readouts.data import FitData
    from stages.readouts.readout import Readouts


class AdamW(Solver):
    """Gradient descent on all neurons' readouts together; see `stages.readouts.adamw`."""

    settings = AdamWSettings
    keeps_order = True
    floor = PUBLISHED_FLOOR

    def fit(
        self, data: FitData, settings: AdamWSettings, *, progress: OnEpoch | None = None
    ) -> Readouts:
        """Fit by the published protocol; see `stages.readouts.adamw.fit_adamw`."""
        from stages.readouts.adamw import fit_adamw

        return fit_adamw(data, settings, progress=progress)

    def epochs(self, settings: AdamWSettings) -> int:
        """Passes over the training trials, at most."""
        return settings.max_epochs

    def trial_penalty(self, settings: AdamWSettings) -> float:
        """The loss of a batch has the penalty once."""
        return settings.penalty / settings.batch_size

    def least_memory(self, size: FitSize, settings: AdamWSettings, *, divided: bool = False) -> int:
        """Bytes that a fit needs at least: responses, as recorded and normalised, and descent."""
        maps = size.places * size.n_neurons
        batch = max(settings.batch_size * maps, min(PREDICT_ELEMENTS, VALIDATION_BATCH * maps))
        # Weights, their gradients, two moments, and the best copy.
        axes = size.n_rows + size.n_columns + size.n_channels
        weights = 5 * size.n_neurons * (axes + 1)
        return 2 * size.responses + 4 * (4 * batch + weights)

    def cost(
        self,
        size: FitSize,
        settings: AdamWSettings,
        *,
        divided: bool = False,
        memory_limit: int | None = None,
    ) -> Cost:
        """The cost of a fit that takes all its epochs."""
        numbers = size.n_trials * size.places * size.n_channels
        epochs = settings.max_epochs
        shares = {
            "neuron products": 6 * numbers * size.n_neurons * epochs / 1e9
            * RATES["neuron products"],
            # Forward and backward.
            "responses": 2 * size.n_trials * size.n_neurons * epochs / 1e9 * RATES["responses"],
        }  # fmt: skip
        return Cost(
            phases=(Portion(sum(shares.values())),),
            n_bytes=float(size.stored),
            memory=PROCESS + self.least_memory(size, settings),
            shares=shares,
        )
