"""Steps of a run: what each does, whether and why it is done, and how much there is to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from stages.stage import Planned, Stage, Task, Work

if TYPE_CHECKING:
    from pipeline.variant.variant import Variant
    from stages.conditions import Condition

#: "open" is decided when what the step depends on is there; "missing" needs a file that is not.
State = Literal["up to date", "run", "open", "missing"]

#: Steps that are no condition's.
EXTRACT, REPORT = "extract", "report"


@dataclass(frozen=True, kw_only=True)
class Step:
    """One cache, one condition, or the report.

    Parameters
    ----------
    kind : str
        "extract", "report", or the stage's name.
    name : str
        The cache's path, the condition's name, or the report's path.
    state : State
        Whether it is done.
    reason : str
        Why; empty for what is up to date.
    needs : sequence of str
        Names of the steps that it depends on.
    missing : mapping
        Files that it needs and that are not there, by the setting that names them.
    work : Work
        What it has to do if it runs.
    variant : Variant, optional
        Whose step it is; the report is everybody's.
    stage : Stage, optional
        What computes the condition.
    planned : Planned, optional
        The condition before anything is computed.
    task : Task, optional
        The condition as it is computed; None until what it depends on is there.
    """

    kind: str
    name: str
    state: State
    reason: str = ""
    needs: tuple[str, ...] = ()
    missing: Mapping[str, Path] = field(default_factory=dict)
    work: Work = field(default_factory=Work)
    variant: Variant | None = None
    stage: Stage | None = None
    planned: Planned | None = None
    task: Task | None = None

    @property
    def condition(self) -> Condition | None:
        """What it yields, if that is a condition."""
        return None if self.planned is None else self.planned.condition


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All steps, each after those that it needs."""

    steps: Sequence[Step]

    def missing(self, kinds: Sequence[str] | None = None) -> dict[str, Path]:
        """Files that some step needs and that are not there; of all kinds of steps by default."""
        chosen = (step for step in self.steps if kinds is None or step.kind in kinds)
        return {name: path for step in chosen for name, path in step.missing.items()}

    def of(self, kind: str) -> Iterator[Step]:
        """The steps of one kind."""
        return (step for step in self.steps if step.kind == kind)

    @property
    def conditions(self) -> list[Step]:
        """The steps that yield conditions, in the order of the tables."""
        return [step for step in self.steps if step.stage is not None]

    def total(self, name: str, kind: str) -> int | None:
        """A count of `Work` summed over one kind's steps to do; None where one cannot be told."""
        to_do = (step for step in self.of(kind) if step.state != "up to date")
        counts = [getattr(step.work, name) for step in to_do]
        return None if None in counts else sum(counts)
