"""Failed conditions as values, so that the others go on."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from cache import UserError
from stages.conditions import Condition

if TYPE_CHECKING:
    from stages.readouts.saved import FittedCondition
    from stages.stage import Task


TaskType = TypeVar("TaskType", bound="Task")


@dataclass(frozen=True, kw_only=True)
class FailedCondition:
    """One condition that could not be computed.

    Parameters
    ----------
    condition : Condition
        Its identity.
    reason : str
        One line of why.
    details : str
        The traceback; empty where the input is to blame.
    """

    condition: Condition
    reason: str
    details: str = ""

    @property
    def name(self) -> str:
        """Its name in messages."""
        return self.condition.slug


@dataclass(frozen=True, kw_only=True)
class FailedCache:
    """A cache that could not be extracted."""

    name: str
    reason: str
    details: str


class StepsFailed(Exception):
    """Some steps of a run failed while the others went on."""

    def __init__(self, failed: Sequence[FailedCache | FailedCondition]) -> None:
        super().__init__(f"{len(failed)} {'step' if len(failed) == 1 else 'steps'} failed")
        self.failed = list(failed)


def attempt(
    compute: Callable[[TaskType], FittedCondition], task: TaskType
) -> FittedCondition | FailedCondition:
    """Compute one condition; an error becomes a value, which other processes can hand over."""
    try:
        return compute(task)
    except Exception as error:
        bad_input = isinstance(error, UserError)
        reason = str(error) if bad_input else f"{type(error).__name__}: {error}"
        return FailedCondition(
            condition=task.condition,
            reason=" ".join(reason.split()),
            details="" if bad_input else traceback.format_exc(),
        )
