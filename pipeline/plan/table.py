"""Table of a plan: steps that differ in their block alone share a line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import PurePath
from typing import Any

from rich.filesize import decimal

from pipeline.plan.steps import EXTRACT, Plan, Step
from pipeline.results.names import describe
from pipeline.terminal import Terminal
from stages.conditions import IDENTITY
from stages.registry import STAGES

#: What tells conditions apart, besides their blocks.
_TOLD = tuple(name for name in IDENTITY if name not in ("block", "blocks"))


def plan_lines(plan: Plan) -> list[dict[str, str]]:
    """Rows of the plan's table: `step`, `what`, `blocks`, `why`, and `work` where there is some."""
    varying = _varying(plan)
    return [
        {
            "step": first.kind,
            "what": _what(first, varying),
            "blocks": _blocks([first, *others]),
            "why": "input missing" if first.state == "missing" else first.reason or first.state,
            "work": "" if first.state == "up to date" else _work([first, *others]),
        }
        for first, *others in _groups(plan)
    ]


def show_plan(plan: Plan, terminal: Terminal, *, title: str, note: bool = False) -> None:
    """Print a plan: a line per group of steps, what is missing, and what there is to do."""
    fixed = _fixed(plan)
    say = terminal.note if note else terminal.result
    terminal.table(plan_lines(plan), title=f"{title}\n{fixed}" if fixed else title, note=note)
    for name, path in plan.missing().items():
        say(f"missing: {path} ({name})")
    say(summary(plan))


def plan_document(plan: Plan) -> dict[str, Any]:
    """The plan as JSON has it."""
    return {
        "steps": [step.as_json() for step in plan.steps],
        "missing": {name: str(path) for name, path in plan.missing().items()},
        "summary": summary(plan),
    }


def summary(plan: Plan) -> str:
    """One line of how much there is to do."""
    n_done = sum(step.state == "up to date" for step in plan.steps)
    counts = [f"{n_done} of {len(plan.steps)} steps up to date"]
    for kind, to_do in {EXTRACT: "extract", **{s.name: s.verb for s in STAGES}}.items():
        n_left = sum(step.state != "up to date" for step in plan.of(kind))
        if not n_left:
            continue
        what, counted, unit = "condition", plan.total("neurons", kind), "readouts"
        if kind == EXTRACT:
            size = decimal(plan.total("n_bytes", kind) or 0)
            what, counted, unit = "cache", plan.total("images", kind), f"images, {size}"
        told = "" if counted is None else f" ({counted:,} {unit})"
        counts.append(f"{n_left} {what}{'' if n_left == 1 else 's'} to {to_do}{told}")
    return "; ".join(counts)


def _groups(plan: Plan) -> Iterator[Sequence[Step]]:
    """Steps that differ in their block alone, in the order of the first of each."""

    def alike(step: Step) -> tuple[object, ...]:
        said = {} if step.condition is None else step.condition.identity()
        told = tuple(said[n] for n in _TOLD) if said else (step.name,)
        return step.kind, step.state, step.reason, told

    # Tuned conditions come block by block; a stable sort brings each tuning's together.
    order = {key: number for number, key in enumerate(dict.fromkeys(map(alike, plan.steps)))}
    for _, steps in groupby(sorted(plan.steps, key=lambda s: order[alike(s)]), key=alike):
        yield list(steps)


def _varying(plan: Plan) -> list[str]:
    """What differs between the conditions of ViTs; a CNN is told by its model."""
    identities = [s.condition.identity() for s in plan.steps if s.condition and s.condition.tokens]
    values = {name: {identity[name] for identity in identities} for name in _TOLD}
    # Frozen conditions have no protocol, which does not tell tuned ones apart.
    values["protocol"] -= {None}
    return [name for name in _TOLD if len(values[name]) > 1]


def _fixed(plan: Plan) -> str:
    """What all conditions of ViTs have in common."""
    varying = _varying(plan)
    vits = [s.condition for s in plan.steps if s.condition and s.condition.tokens]
    fixed = ("recording", "model", "input_size", "tokens", "solver")
    return describe(vits[0].identity(), [n for n in fixed if n not in varying]) if vits else ""


def _what(step: Step, varying: Sequence[str]) -> str:
    if step.condition is None:
        return PurePath(step.name).name
    identity = step.condition.identity()
    if step.condition.tokens is None:
        names = [n for n in _TOLD if n == "model" or (n in varying and n in ("recording", "seed"))]
        return describe(identity, names)
    return describe(identity, varying) or describe(identity, ["tuning"])


def _blocks(steps: Sequence[Step]) -> str:
    """Such as "0-11", or "2, 4, 3+4"."""
    named = [s.condition.blocks for s in steps if s.condition and s.condition.blocks]
    single = sorted(int(blocks) for blocks in named if "+" not in blocks)
    if len(single) > 2 and single == list(range(single[0], single[-1] + 1)):
        ranges = [f"{single[0]}-{single[-1]}"]
    else:
        ranges = [str(block) for block in single]
    return ", ".join([*ranges, *(blocks for blocks in named if "+" in blocks)])


def _work(steps: Sequence[Step]) -> str:
    """Such as "2,300 images, 699.5 MB"; "?" for what cannot be told."""
    said = []
    for name, unit in (("images", "images"), ("neurons", "readouts"), ("n_bytes", "")):
        numbers = [getattr(step.work, name) for step in steps]
        if None in numbers:
            said.append(f"? {unit}" if unit else "? B")
        elif sum(numbers):
            said.append(f"{sum(numbers):,} {unit}" if unit else decimal(sum(numbers)))
    return ", ".join(said)
