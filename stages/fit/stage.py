"""The fit stage: frozen readouts of every neuron from the cache."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.conditions import Condition
from stages.fit.conditions import fit_tasks, of_all_readouts, planned_fits
from stages.fit.cost import fit_cost, needed_memory, planned_memory, planned_size, readout_of
from stages.fit.task import FitTask
from stages.stage import Crew, Planned, Progress, Stage
from stages.variant import Settings, Variant

if TYPE_CHECKING:
    from stages.costs import Cost, MemoryLimit, Workers
    from stages.executors.executor import Executor
    from stages.failures import FailedCondition
    from stages.networks.from_pixels import FromPixels
    from stages.readouts.load import SavedReadouts
    from stages.readouts.saved import FittedCondition


class Fit(Stage):
    """The `[readout]` conditions; see `stages.stage.Stage`."""

    name = "fit"
    doing = "fitting readouts"
    verb, done = "fit", "fitted"

    def table(self, condition: Condition) -> str:
        """That of the solver."""
        return f"readout.{condition.solver}"

    def check(
        self, variant: Variant, to_do: Sequence[Planned] = (), limit: MemoryLimit | None = None
    ) -> None:
        """Refuse blocks that the backbone does not have, and memory that holds no fit."""
        for _ in self.conditions(variant):
            pass
        for planned in to_do:
            if limit is None or not planned.work.is_known:
                continue
            condition, neurons = planned.condition, planned.work.neurons
            limit.require(
                planned_memory(planned, variant.settings, divided=limit.divides),
                f"the readouts of {neurons} neurons on {condition.tokens} tokens of "
                + (f"block {condition.blocks}" if condition.blocks else condition.model),
                lower=f"lower the sizes in readout.{condition.solver}, or choose fewer "
                "recording.neurons",
            )

    def conditions(self, variant: Variant) -> Iterator[Planned]:
        """The frozen conditions of every recording, kind of token and block."""
        return of_all_readouts(variant, planned_fits)

    def tasks(self, variant: Variant) -> Iterator[FitTask]:
        """The same as tasks."""
        return of_all_readouts(variant, fit_tasks)

    def crew(self, tasks: Sequence[FitTask], *, workers: int, devices: Sequence[str]) -> Crew:
        """As many workers as there are conditions, or parts of those that can be divided."""
        from stages.fit.schedule import most_at_a_time, one_of_each_size

        return Crew(
            workers=most_at_a_time(tasks, workers),
            needed=lambda: max(map(needed_memory, one_of_each_size(tasks))),
            devices=(devices[0],),
        )

    def parts(self, tasks: Sequence[FitTask], executor: Executor) -> tuple[int, str]:
        """Conditions, or their parts where some are divided."""
        from stages.fit.schedule import count_parts

        total = count_parts(tasks, executor)
        return total, "conditions" if total == len(tasks) else "parts"

    def run(
        self, tasks: Sequence[FitTask], executor: Executor, folder: Path, progress: Progress
    ) -> Iterator[FittedCondition | FailedCondition]:
        """Fit the conditions, each as it is done."""
        from stages.fit.schedule import fit_all

        return fit_all(tasks, executor, folder=folder, progress=progress)

    def network(
        self,
        run: Path,
        readouts: SavedReadouts,
        saved: Mapping[str, Any],
        *,
        weights: str | None,
        device: str,
    ) -> FromPixels:
        """The frozen backbone."""
        from stages.fit.network import frozen_network

        return frozen_network(readouts, saved["network"], weights=weights, device=device)

    def cost(
        self, planned: Planned, settings: Settings, workers: Workers, *, n_planned: int
    ) -> Cost | None:
        """A fit, divided where the stage would divide it."""
        if not planned.work.is_known or planned.work.tokens is None:
            return None
        return fit_cost(
            planned_size(planned),
            readout_of(planned, settings),
            n_fits=n_planned,
            workers=workers.number,
            memory_limit=workers.task_memory,
        )
