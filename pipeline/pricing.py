"""What a plan costs before it runs: core hours, bytes read, and a worker's peak memory."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.plan import Plan, Step
from stages.costs import Cost, FitSize, fit_cost, forward_cost, joint_fit_cost
from stages.sizes import readable
from stages.solvers.memory import Problem
from stages.solvers.polish import SLOPE_TRIALS


@dataclass(frozen=True)
class Price:
    """The cost of what is to be done of a plan.

    Parameters
    ----------
    cost : Cost
        Of the steps that have a price.
    unpriced : int
        Steps to be done whose sizes cannot be told, or whose cost nobody has measured (CNNs).
    """

    cost: Cost
    unpriced: int

    def told(self) -> str:
        """One line."""
        hours = self.cost.core_seconds / 3600
        shown = f"{hours:,.0f}" if hours >= 10 else f"{hours:.2g}"
        line = (
            f"estimated: {shown} core hours on CPUs (fine-tuning at most), "
            f"{readable(self.cost.n_bytes)} read, {readable(self.cost.memory)} per worker at most"
        )
        return line + (f"; {self.unpriced} steps without an estimate" if self.unpriced else "")

    def document(self) -> dict[str, float]:
        """The same as JSON has it."""
        return {
            "core_seconds": self.cost.core_seconds,
            "n_bytes": self.cost.n_bytes,
            "memory": self.cost.memory,
            "unpriced": self.unpriced,
        }


def price(plan: Plan) -> Price:
    """The price of all steps that are, or may have to be, done."""
    to_do = [s for s in plan.steps if s.state != "up to date" and s.stage != "report"]
    costs = [_step_cost(step) for step in to_do]
    known = [cost for cost in costs if cost is not None]
    return Price(cost=sum(known, Cost()), unpriced=len(costs) - len(known))


def _step_cost(step: Step) -> Cost | None:
    work, tokens = step.work, step.work.tokens
    if tokens is None or None in (work.images, work.trials, work.test_images, work.neurons):
        return None
    images, trials, neurons = work.images or 0, work.trials or 0, work.neurons or 0
    if step.stage == "extract":
        return forward_cost(tokens, images=images, blocks=work.blocks)
    if step.stage == "finetune":
        passes = float(trials * work.epochs)
        return forward_cost(tokens, images=passes, blocks=work.blocks, trained=work.blocks) + Cost(
            n_bytes=work.n_bytes or 0
        )
    if step.condition is None or step.experiment is None:
        return None
    readout = step.experiment.readout
    channels = tokens.n_channels * (1 + (step.condition.blocks or "").count("+"))
    rows, columns = tokens.grid if step.condition.tokens == "patch" else (1, 1)
    size = FitSize(
        problem=Problem(
            n_trials=trials,
            n_rows=rows,
            n_columns=columns,
            n_components=min(readout.als.max_components, channels),
            n_neurons=neurons,
            n_penalties=len(readout.als.penalties),
            n_folds=readout.als.folds,
            n_slope_trials=min(trials, 2 * SLOPE_TRIALS),
        ),
        n_channels=channels,
        n_test=work.test_images or 0,
        item_bytes=2 if tokens.dtype == "float16" else 4,
        basis_images=readout.als.basis_images,
        steps=1 + readout.als.polish_rounds,
    )
    if step.condition.solver == "adamw":
        return joint_fit_cost(size, epochs=work.epochs)
    return fit_cost(size)
