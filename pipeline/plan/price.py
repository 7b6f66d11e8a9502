"""What a plan costs before it runs: core hours, wall time, bytes read, and a worker's memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline.plan.steps import Plan, Stage, Step
from pipeline.workers import Capacity
from stages.baseline.task import MINIMODEL
from stages.costs import Cost, side_by_side
from stages.finetune.cost import TuningSize
from stages.fit.cost import fit_cost, planned_size
from stages.network_costs import cnn_cost, extraction_cost, tuning_cost
from stages.settings import readable

#: The order in which a run's stages follow each other.
_STAGES: tuple[Stage, ...] = ("extract", "fit", "finetune", "baseline")


@dataclass(frozen=True, kw_only=True)
class Price:
    """The cost of what is to be done of a plan.

    Parameters
    ----------
    cost : Cost
        Of the steps that have a price.
    capacity : Capacity
        Who does them.
    seconds : float, optional
        Wall time; None where nobody knows how many workers there will be.
    unpriced : int
        Steps to be done whose sizes cannot be told.
    """

    cost: Cost
    capacity: Capacity
    seconds: float | None
    unpriced: int

    def told(self) -> str:
        """One line."""
        line = f"estimated: {_hours(self.cost.core_seconds)} core hours on CPUs"
        if self.seconds is not None:
            workers = self.capacity.workers
            line += f", {_hours(self.seconds)} hours on {workers} worker{'s' * (workers != 1)}"
        line += (
            f" (training at most); {readable(self.cost.n_bytes)} read, "
            f"{readable(self.cost.memory)} of memory per worker"
        )
        return line + (f"; {self.unpriced} steps without an estimate" if self.unpriced else "")

    def document(self) -> dict[str, Any]:
        """The same as JSON has it."""
        return {
            "core_seconds": self.cost.core_seconds,
            "seconds": self.seconds,
            "workers": self.capacity.workers,
            "n_bytes": self.cost.n_bytes,
            "memory": self.cost.memory,
            "unpriced": self.unpriced,
        }


def _hours(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.2g}"


def price(plan: Plan, capacity: Capacity) -> Price:
    """The price of all steps that are, or may have to be, done.

    Parameters
    ----------
    capacity : Capacity
        Who will do them, from `pipeline.workers.capacity_of`.
    """
    to_do = [s for s in plan.steps if s.state != "up to date" and s.stage != "report"]
    by_stage = {
        stage: list(_costs([step for step in to_do if step.stage == stage], capacity))
        for stage in _STAGES
    }
    known = [cost for costs in by_stage.values() for cost in costs]
    workers = capacity.workers
    seconds = None if workers is None else sum(_wall(c, capacity) for c in by_stage.values())
    return Price(
        cost=sum(known, Cost()),
        capacity=capacity,
        seconds=seconds,
        unpriced=len(to_do) - len(known),
    )


def _wall(costs: Sequence[Cost], capacity: Capacity) -> float:
    """Wall time of one stage."""
    workers = capacity.workers or 1
    divided = [cost for cost in costs if any(phase.parts > 1 for phase in cost.phases)]
    whole = [cost for cost in costs if cost not in divided]
    each = [cost.seconds(workers) for cost in divided]
    together = sum(each)
    if capacity.concurrent and each:
        together = max(*each, sum(cost.core_seconds for cost in divided) / workers)
    return together + side_by_side(whole, workers)


def _costs(steps: Sequence[Step], capacity: Capacity) -> Iterator[Cost]:
    """Of the steps of one stage whose sizes are known."""
    for step in steps:
        work = step.work
        if None in (work.images, work.trials, work.test_images, work.neurons):
            continue
        if step.stage == "baseline":
            yield from _cnn(step)
        elif work.tokens is None:
            continue
        elif step.stage == "extract":
            yield extraction_cost(work.tokens, n_images=work.images or 0)
        elif step.stage == "finetune":
            yield from _tuning(step, capacity)
        else:
            yield from _fit(step, len(steps), capacity)


def _cnn(step: Step) -> Iterator[Cost]:
    """Where the images' size is known."""
    if step.condition is None or step.experiment is None or step.experiment.baseline is None:
        return
    rows, _, columns = step.condition.input_size.partition("x")
    if int(rows) and int(columns):
        yield cnn_cost(
            step.experiment.baseline,
            input_size=(int(rows), int(columns)),
            n_trials=step.work.trials or 0,
            n_neurons=step.work.neurons or 0,
            minimodels=step.condition.model == MINIMODEL,
        )


def _tuning(step: Step, capacity: Capacity) -> Iterator[Cost]:
    work, condition, experiment = step.work, step.condition, step.experiment
    if condition is None or experiment is None or experiment.finetune is None:
        return
    assert work.tokens is not None and condition.block is not None
    settings = experiment.finetune
    size = TuningSize(
        tokens=work.tokens,
        block=condition.block,
        tuned_blocks=work.tuned_blocks,
        n_neurons=work.neurons or 0,
        n_trials=work.trials or 0,
        pass_size=settings.micro_batch or settings.batch_size,
        cls=condition.tokens == "cls",
    )
    yield tuning_cost(
        size,
        passed_blocks=work.blocks,
        epochs=work.epochs,
        n_bytes=work.n_bytes or 0,
        memory_limit=capacity.task_memory,
    )


def _fit(step: Step, n_steps: int, capacity: Capacity) -> Iterator[Cost]:
    """A fit, divided where its stage would divide it."""
    work, condition, experiment = step.work, step.condition, step.experiment
    if condition is None or experiment is None:
        return
    assert work.tokens is not None
    size = planned_size(
        condition,
        work.tokens,
        n_trials=work.trials or 0,
        n_test=work.test_images or 0,
        n_neurons=work.neurons or 0,
    )
    yield fit_cost(
        size,
        replace(experiment.readout, solver=condition.solver or experiment.readout.solver),
        n_fits=n_steps,
        workers=capacity.workers,
        memory_limit=capacity.task_memory,
    )
