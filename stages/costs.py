"""Cost of work: core seconds, wall time on some workers, bytes read, and memory."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cache import UserError
from stages.settings import readable


@dataclass(frozen=True)
class Portion:
    """Work of which some parts may be done at a time, and all before the next portion.

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
class Workers:
    """Who computes: as far as settings tell, without asking any scheduler.

    Parameters
    ----------
    number : int, optional
        Tasks at a time; None where a running scheduler's workers decide.
    task_memory : int, optional
        Bytes for each; None where they decide.
    concurrent : bool
        Whether several conditions may be divided among them at a time.
    """

    number: int | None
    task_memory: int | None
    concurrent: bool = True


@dataclass(frozen=True)
class MemoryLimit:
    """Memory that one task may use.

    Parameters
    ----------
    n_bytes : int
        How much.
    said : str
        The setting that decides it, and what it leaves, such as "run.memory_limit leaves 1.0 GB".
    remedy : str
        What gives a task more.
    divides : bool
        Whether a task that is too large is divided among workers.
    """

    n_bytes: int
    said: str
    remedy: str = "raise it"
    divides: bool = False

    def require(self, needed: int, what: str, *, lower: str) -> None:
        """Refuse what the memory cannot hold: a worker for `what` that needs more bytes.

        Raises
        ------
        UserError
            The message says what makes it `lower`, such as "choose fewer recording.neurons".
        """
        if needed > self.n_bytes:
            raise UserError(
                f"{self.said} to {what}, which needs about {readable(needed)}: {self.remedy}, "
                f"{lower}"
            )


@dataclass(frozen=True)
class Cost:
    """What some work takes.

    Parameters
    ----------
    phases : sequence of Portion
        One after the other.
    n_bytes : float
        Bytes of tokens read.
    memory : float
        Bytes of one worker at its peak.
    shares : mapping
        Core seconds by kind of operation.
    """

    phases: tuple[Portion, ...] = ()
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

    def scaled(self, factor: Callable[[str], float]) -> Cost:
        """The same on a machine where each kind of operation takes so many times as long."""
        shares = {name: factor(name) * seconds for name, seconds in self.shares.items()}
        before = sum(self.shares.values())
        change = sum(shares.values()) / before if before else factor("")
        phases = tuple(
            replace(phase, core_seconds=change * phase.core_seconds) for phase in self.phases
        )
        return replace(self, phases=phases, shares=shares)

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
    for seconds in sorted((cost.core_seconds for cost in costs), reverse=True):
        heapq.heapreplace(ends, ends[0] + seconds)
    return max(ends)


#: Bytes of a float32 number.
FLOAT = 4

#: Passes that training takes: forward, and backward at twice the cost.
PASSES = 3

#: What training holds of each trained number: gradient, two moments, best and latest copy, and one
#: that comes and goes.
COPIES = 6

#: Floating-point operations per second of one core in float32, through readouts that are trained.
READOUT_RATE = 130e9


def readout_seconds(places: int, channels: int, n_neurons: int) -> float:
    """Core seconds of training readouts on one image's places x channels, forward and backward."""
    return PASSES * 2.0 * places * channels * n_neurons / READOUT_RATE
