"""What work costs: core seconds, wall time on some workers, bytes read, and memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Phase:
    """Work of which some parts may be done at a time, and all before the next phase.

    Parameters
    ----------
    core_seconds : float
        On one core as fast as that of the measured rates.
    parts : int
        About equally long.
    """

    core_seconds: float
    parts: int = 1

    def seconds(self, workers: int) -> float:
        """Wall time on so many workers."""
        return self.core_seconds * -(-self.parts // workers) / self.parts


@dataclass(frozen=True)
class Cost:
    """What some work takes.

    Parameters
    ----------
    phases : sequence of Phase
        One after the other.
    n_bytes : float
        Bytes of tokens read.
    memory : float
        Bytes of one worker at its peak.
    shares : mapping
        Core seconds by kind of operation.
    """

    phases: tuple[Phase, ...] = ()
    n_bytes: float = 0.0
    memory: float = 0.0
    shares: Mapping[str, float] = field(default_factory=dict)

    @property
    def core_seconds(self) -> float:
        """Of all phases."""
        return sum(phase.core_seconds for phase in self.phases)

    def seconds(self, workers: int = 1) -> float:
        """Wall time on so many workers that do nothing else."""
        return sum(phase.seconds(workers) for phase in self.phases)

    def __add__(self, other: Cost) -> Cost:
        """Both, one after the other."""
        names = self.shares.keys() | other.shares.keys()
        return Cost(
            phases=self.phases + other.phases,
            n_bytes=self.n_bytes + other.n_bytes,
            memory=max(self.memory, other.memory),
            shares={n: self.shares.get(n, 0) + other.shares.get(n, 0) for n in sorted(names)},
        )


def side_by_side(costs: Sequence[Cost], workers: int) -> float:
    """Wall time of independent work, each piece of it on one worker: the longest come first."""
    ends = [0.0] * max(1, min(workers, len(costs)))
    for cost in sorted(costs, key=lambda each: -each.core_seconds):
        first = ends.index(min(ends))
        ends[first] += cost.core_seconds
    return max(ends)
