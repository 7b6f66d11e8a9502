"""What a run consists of: steps, why each is done or skipped, and how much there is to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from cache import TokenShape, canonical_json, flatten
from pipeline.experiment import Experiment
from stages.conditions import Condition

Stage = Literal["extract", "fit", "finetune", "baseline", "report"]

#: "open" is decided when what the step depends on is there; "missing" needs a file that is not.
State = Literal["up to date", "run", "open", "missing"]


@dataclass(frozen=True, kw_only=True)
class Work:
    """How much a step has to do; None where it cannot be told.

    Parameters
    ----------
    images : int, optional
        Images that go through the backbone, once each.
    trials, test_images : int, optional
        Single trials (training and validation) and test images that readouts are fitted to.
    neurons : int, optional
        Neurons that are fitted: one readout each.
    blocks, tuned_blocks : int
        Transformer blocks that an image passes, and those of them that are trained.
    epochs : int
        Passes over the training trials at most; 0 where there are none.
    n_bytes : int, optional
        Bytes of tokens that are written (extract) or read (fit, finetune).
    tokens : TokenShape, optional
        Of the backbone; a CNN has none.
    """

    images: int | None = 0
    trials: int | None = 0
    test_images: int | None = 0
    neurons: int | None = 0
    blocks: int = 0
    tuned_blocks: int = 0
    epochs: int = 0
    n_bytes: int | None = 0
    tokens: TokenShape | None = None


@dataclass(frozen=True, kw_only=True)
class Step:
    """One cache, one condition, or the report.

    Parameters
    ----------
    stage : str
        "extract", "fit", "finetune", "baseline" or "report".
    name : str
        The cache's path, the condition's name, or the report's path.
    state : str
        "up to date", "run", "open" or "missing".
    reason : str
        Why; empty for what is up to date.
    needs : sequence of str
        Names of the steps it depends on.
    missing : mapping
        Files that it needs and that are not there, by the setting that names them.
    work : Work
        What it has to do if it runs.
    condition : Condition, optional
        Which it yields.
    experiment : Experiment, optional
        Its settings.
    """

    stage: Stage
    name: str
    state: State
    reason: str = ""
    needs: tuple[str, ...] = ()
    missing: Mapping[str, Path] = field(default_factory=dict)
    work: Work = field(default_factory=Work)
    condition: Condition | None = None
    experiment: Experiment | None = None

    def as_json(self) -> dict[str, Any]:
        """The step as JSON has it, without the experiment's settings."""
        return {
            "stage": self.stage,
            "name": self.name,
            "state": self.state,
            "reason": self.reason,
            "needs": list(self.needs),
            "missing": {name: str(path) for name, path in self.missing.items()},
            "work": asdict(self.work),
            "condition": None if self.condition is None else self.condition.identity(),
        }


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All steps, each after those that it needs."""

    steps: Sequence[Step]

    @property
    def missing(self) -> dict[str, Path]:
        """Files that some step needs and that are not there."""
        return {name: path for step in self.steps for name, path in step.missing.items()}

    def named(self, *states: State) -> list[str]:
        """Names of the steps in some states."""
        return [step.name for step in self.steps if step.state in states]

    def total(self, name: str, stage: Stage | None = None) -> int | None:
        """A count of `Work` summed over what is to be done; None where one cannot be told."""
        counts = [
            getattr(step.work, name)
            for step in self.steps
            if step.state != "up to date" and stage in (None, step.stage)
        ]
        return None if None in counts else sum(counts)


#: What a changed input of a condition is called where the setting's name would not say it.
_INPUTS = {
    "cache": "the cache holds other tokens",
    "tokens": "the cache holds other tokens",
    "recording": "the recording changed",
    "images": "the images changed",
    "frozen": "its frozen readouts change",
    "fullmodel": "its fullmodel changes",
    "version": "this version of vitv1 computes otherwise",
}

#: Tables of the experiment file that inputs of a stage's conditions come from.
_TABLES = {"fit": "readout.{solver}", "finetune": "finetune", "baseline": "baseline"}


def changes(stage: Stage, condition: Condition, now: Mapping[str, Any], saved: object) -> str:
    """What differs between a condition's inputs and those it was saved with, as people say it.

    Such as "readout.als.max_components: 96 -> 48".
    """
    if not isinstance(saved, Mapping) or not saved:
        return "its settings, its data or vitv1 changed"
    ours, before = dict(flatten(now)), dict(flatten(saved))
    table = _TABLES.get(stage, "").format(solver=condition.solver)
    said = []
    for name in ours.keys() | before.keys():
        here, there = (canonical_json(side.get(name)) for side in (ours, before))
        if here == there:
            continue
        owner, _, rest = name.partition(".")
        if owner in _INPUTS:
            said.append(_INPUTS[owner])
        else:
            label = f"{table}.{rest}" if owner in ("settings", "solver") else name
            label = f"{table}.{name}" if owner in ("crop", "minimodel") else label
            said.append(f"{label}: {there} -> {here}")
    return "; ".join(sorted(set(said)))
