"""Price of a plan before it runs: core hours, wall time, bytes read, and a worker's memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.plan.speed import ASSUMED, Speed
from pipeline.plan.steps import EXTRACT, Plan, Step
from stages.costs import Cost, Workers, side_by_side
from stages.extract import extraction_cost
from stages.registry import STAGES
from stages.settings import readable

#: Core hours that a run does not begin without a word.
MANY_HOURS = 100

#: Steps that have a price.
PRICED = (EXTRACT, *(stage.name for stage in STAGES))


@dataclass(frozen=True, kw_only=True)
class Price:
    """The cost of what is to be done of a plan.

    Parameters
    ----------
    cost : Cost
        Of the steps that have a price.
    workers : Workers
        Who does them.
    seconds : float, optional
        Wall time; None where nobody knows how many workers there will be.
    unpriced : int
        Steps to be done whose sizes cannot be told.
    speed : Speed
        Of each of them.
    """

    cost: Cost
    workers: Workers
    seconds: float | None
    unpriced: int
    speed: Speed = ASSUMED

    @property
    def hours(self) -> float:
        """Hours of one core, or of a GPU."""
        return self.cost.core_seconds / 3600

    def told(self) -> str:
        """One line."""
        if self.unpriced and not self.cost.core_seconds:
            return f"no estimate: of {self.unpriced} steps nobody knows the sizes"
        kind = f"hours of {self.speed.device}" if self.speed.is_gpu else "core hours on CPUs"
        line = f"estimated: {_hours(self.cost.core_seconds)} {kind}"
        if self.seconds is not None:
            number = self.workers.number
            name = "GPU" if self.speed.is_gpu else "worker"
            line += f", {_hours(self.seconds)} hours on {number} {name}{'s' * (number != 1)}"
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
            "workers": self.workers.number,
            "n_bytes": self.cost.n_bytes,
            "memory": self.cost.memory,
            "unpriced": self.unpriced,
            "rates": self.speed.document(),
        }


def price(
    plan: Plan, workers: Workers, *, speed: Speed = ASSUMED, kinds: Sequence[str] = PRICED
) -> Price:
    """The price of all steps of some kinds that are, or may have to be, done by these workers."""
    kinds = [kind for kind in PRICED if kind in kinds]
    to_do = [s for s in plan.steps if s.state != "up to date" and s.kind in kinds]
    costs = []
    for kind in kinds:
        steps = [step for step in to_do if step.kind == kind]
        told = (_cost(step, workers, len(steps)) for step in steps)
        costs.append([cost.scaled(speed.factor) for cost in told if cost is not None])
    known = [cost for some in costs for cost in some]
    seconds = None if workers.number is None else sum(_wall(some, workers) for some in costs)
    return Price(
        cost=sum(known, Cost()),
        workers=workers,
        seconds=seconds,
        unpriced=len(to_do) - len(known),
        speed=speed,
    )


def _wall(costs: Sequence[Cost], workers: Workers) -> float:
    """Wall time of one stage."""
    number = workers.number or 1
    divided = [cost for cost in costs if any(phase.parts > 1 for phase in cost.phases)]
    whole = [cost for cost in costs if cost not in divided]
    each = [cost.seconds(number) for cost in divided]
    together = sum(each)
    if workers.concurrent and each:
        together = max(*each, sum(cost.core_seconds for cost in divided) / number)
    return together + side_by_side(whole, number)


def _cost(step: Step, workers: Workers, n_planned: int) -> Cost | None:
    """None where its sizes are not known."""
    if step.stage is not None and step.planned is not None and step.variant is not None:
        settings = step.variant.settings
        return step.stage.cost(step.planned, settings, workers, n_planned=n_planned)
    work = step.work
    if work.tokens is None or work.images is None:
        return None
    return extraction_cost(work.tokens, n_images=work.images, operations=work.operations)


def _hours(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.2g}"
