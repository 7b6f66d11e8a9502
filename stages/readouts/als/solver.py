"""The default solver: factorised least squares from sufficient statistics, carried to ELU + 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from stages.readouts.als.cost import als_cost, held_problem, held_responses
from stages.readouts.als.partition import neuron_groups
from stages.readouts.sizes import FitSize
from stages.readouts.solver_protocol import DividedFit, FitSource, OnEpoch, Solver
from stages.readouts.solver_settings import ALSSettings

if TYPE_CHECKING:
    from stages.readouts.data import FitData
    from stages.readouts.readout import Readouts


class ALS(Solver):
    """Alternating least squares, and steps of Fisher scoring; see `stages.readouts.als.fit`."""

    settings = ALSSettings
    by_epochs = False
    cost = staticmethod(als_cost)

    def fit(
        self, data: FitData, settings: ALSSettings, *, progress: OnEpoch | None = None
    ) -> Readouts:
        """Fit every neuron; see `stages.readouts.als.fit.fit_als`."""
        from stages.readouts.als.fit import fit_als

        return fit_als(data, settings, progress=progress)

    def identity(self, settings: ALSSettings) -> dict[str, Any]:
        """What a result's key depends on."""
        # Earlier versions could choose penalties by folds of the training trials too, and hashed
        # how many there were. Results without folds, which all are now, stay up to date.
        return asdict(settings) | {"folds": 0}

    def gives_rates(self, settings: ALSSettings) -> bool:
        """Not where the output is linear."""
        return settings.output == "elu"

    def least_memory(self, size: FitSize, settings: ALSSettings, *, divided: bool = False) -> int:
        """Bytes that a fit, or its part of one group of neurons, needs at least."""
        held = held_problem(size, settings, divided=divided)
        return held_responses(held, divided=divided) + held.least_memory

    def groups(self, n_neurons: int) -> Sequence[slice]:
        """Those that are fitted together."""
        return neuron_groups(n_neurons)

    def divide(self, source: FitSource, settings: ALSSettings) -> DividedFit | None:
        """Shards of trials and groups of neurons, where there are several of either."""
        from stages.readouts.als.distributed.fit import DividedALS

        if source.device != "cpu" or settings.output != "elu":
            return None
        fit = DividedALS(source, settings)
        return fit if len(fit.shards) > 1 or len(fit.groups) > 1 else None
