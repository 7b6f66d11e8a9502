"""Table of a plan: steps that differ in their block alone share a line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import PurePath
from typing import Any

from rich.filesize import decimal

from pipeline.plan.steps import EXTRACT, Plan, Step
from pipeline.results.names import TOLD, describe
from pipeline.terminal import Terminal
from stages.conditions import Condition
from stages.registry import STAGES


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
    vits, varying = _vits(plan), _varying(plan)
    common = ("recording", "model", "input_size", "tokens", "solver")
    fixed = describe(vits[0], [n for n in common if n not in varying]) if vits else ""
    say = terminal.note if note else terminal.result
    terminal.table(plan_lines(plan), title=f"{title}\n{fixed}" if fixed else title, note=note)
    for line in filter(None, map(_grid, plan.of(EXTRACT))):
        say(line)
    for name, path in plan.missing().items():
        say(f"missing: {path} ({name})")
    say(summary(plan))


def plan_document(plan: Plan) -> dict[str, Any]:
    """The plan as JSON has it."""
    steps = [
        {
            "stage": step.kind,
            "name": step.name,
            "state": step.state,
            "reason": step.reason,
            "needs": list(step.needs),
            "missing": step.missing,
            "work": asdict(step.work),
            "condition": None if step.condition is None else step.condition.identity(),
        }
        for step in plan.steps
    ]
    return {"steps": steps, "missing": plan.missing(), "summary": summary(plan)}


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


def _grid(step: Step) -> str | None:
    """Where the tokens of a cache lie, if not as patches side by side in all blocks."""
    tokens = step.work.tokens
    if tokens is not None and tokens.differing:
        sizes = [(*block.grid, block.n_channels) for block in tokens.blocks]
        said = ", ".join("{}x{} of {}".format(*each) for each in dict.fromkeys(sizes))
        name = PurePath(step.name).name
        return f"{name}: tokens of blocks 0-{tokens.n_blocks - 1}, by channels: {said}"
    places = None if tokens is None else tokens.places
    if tokens is None or places is None or places.stride[0] >= 2 * places.first_centre[0]:
        return None
    (rows, columns), (stride, _), (first, _) = tokens.grid, places.stride, places.first_centre
    passes = f", {places.passes} passes per image" if places.passes > 1 else ""
    return (
        f"{PurePath(step.name).name}: {rows}x{columns} tokens, centres every {stride} pixels from "
        f"{first:g} on{passes}"
    )


def _groups(plan: Plan) -> Iterable[Sequence[Step]]:
    """Steps that differ in their block alone, in the order of the first of each."""
    groups: dict[tuple[object, ...], list[Step]] = {}
    for step in plan.steps:
        said = {} if step.condition is None else step.condition.identity()
        told = tuple(said[n] for n in TOLD) if said else (step.name,)
        groups.setdefault((step.kind, step.state, step.reason, told), []).append(step)
    return groups.values()


def _vits(plan: Plan) -> list[dict[str, Any]]:
    """The identities of ViTs' conditions; a CNN is told by its model."""
    conditions = (s.condition for s in plan.steps if s.condition is not None)
    return [each.identity() for each in conditions if not _is_cnn(each)]


def _is_cnn(condition: Condition) -> bool:
    """Whether it is a CNN, be it beside a ViT."""
    return condition.model.startswith("cnn_")


def _varying(plan: Plan) -> list[str]:
    """What differs between the conditions of ViTs."""
    values = {name: {identity[name] for identity in _vits(plan)} for name in TOLD}
    # Frozen conditions have no protocol, which does not tell tuned ones apart.
    values["protocol"] -= {None}
    return [name for name in TOLD if len(values[name]) > 1]


def _what(step: Step, varying: Sequence[str]) -> str:
    if step.condition is None:
        return PurePath(step.name).name
    identity = step.condition.identity()
    if _is_cnn(step.condition):
        told = {"recording", "seed", *(["input_size"] if step.condition.tokens else [])}
        names = [n for n in TOLD if n == "model" or (n in varying and n in told)]
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
