"""A word before a run begins that takes very long, or more than a disk has room for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cache import UserError
from pipeline.plan.price import MANY_HOURS, Price
from pipeline.plan.space import shortages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.experiment import ExperimentFile
    from pipeline.plan.steps import Plan
    from pipeline.terminal import Terminal


def require_consent_to_begin(
    file: ExperimentFile,
    plan: Plan,
    kinds: Sequence[str],
    cost: Price,
    terminal: Terminal,
    *,
    yes: bool,
) -> None:
    """Warn of a plan that is dear or may not fit onto a disk, and ask whoever sits there.

    Parameters
    ----------
    yes : bool
        The answer to all questions.

    Raises
    ------
    UserError
        The answer was no.
    """
    warnings = shortages((step for step in plan.steps if step.kind in kinds), file.output)
    if cost.hours > MANY_HOURS:
        gpu = "" if cost.speed.is_gpu else "; a GPU takes a small part of them"
        unit = f"hours of {cost.speed.device}" if cost.speed.is_gpu else "core hours"
        warnings.append(
            f"this takes about {cost.hours:,.0f} {unit}{gpu} (vitv1 run --dry-run has the plan, "
            "with --calibrate at this machine's speed)"
        )
    for warning in warnings:
        terminal.note(f"warning: {warning}")
    if not warnings:
        return
    if yes or not terminal.can_ask:
        terminal.note("begins all the same: nobody is asked")
    elif not terminal.confirm("Begin?"):
        raise UserError(f"{file.path}: not begun, as you said; nothing was done")
