"""Settings of the batch system that workers are asked from."""

from __future__ import annotations

import re
from typing import Annotated, Any

import pydantic
from pydantic import AfterValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from stages.settings import CLUSTER, ByteSize, Consent

#: Name that dask knows a worker's GPU by.
GPU = "GPU"

#: Part of a worker's memory that tasks may plan with: dask pauses a worker at 80 %.
USABLE = 0.7

#: Seconds before the end of its job at which a worker leaves, at most.
LEAVE = 120

_WALLTIME = re.compile(r"(?:(\d+)-)?(\d{1,3}):([0-5]\d)(?::([0-5]\d))?")


def _walltime(value: str) -> str:
    if _WALLTIME.fullmatch(value) is None:
        raise ValueError('expected hours and minutes, such as "12:00", or days, "2-12:00"')
    return value


#: One word: in a job's script a line or a blank in it would begin another option, or a command.
Name = Annotated[str, Field(pattern=r"^\w[\w.,:@%+/=-]*$")]


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class ClusterSettings:
    """One job of workers, and the number of such jobs.

    What runs as the person who submits it, `directives`, `prologue` and `options`, a file alone
    cannot give; its command needs --allow-cluster, too.

    Parameters
    ----------
    queue : str, optional
        Queue or partition; the batch system's default where absent.
    account : str, optional
        The account that jobs are charged to (LSF: the project).
    cores : int
        Cores of one job; each computes one task at a time.
    memory : int or str
        Of one job, such as "32GB".
    walltime : str
        Of one job, "HH:MM". Jobs that end are replaced, and their tasks computed again: fine-tuning
        goes on from its last epoch.
    jobs : pair of int
        Fewest and most jobs at a time; between them, as many as there is work for.
    directives : sequence of str
        Further options of the batch system, such as "--gres=gpu:1".
    prologue : sequence of str
        Shell lines before the worker starts, such as "module load cuda".
    gpu : bool
        Each job has one GPU, which `directives` ask for; it then computes one task at a time.
    options : table
        Handed to dask-jobqueue's cluster as they stand, such as `interface` and
        `local_directory`. Connections are encrypted and need the run's certificate unless a
        `protocol` is named here, or `security = false`.
    """

    queue: Name | None = None
    account: Name | None = None
    cores: Annotated[int, Field(gt=0)] = 1
    memory: ByteSize = pydantic.ByteSize(8 * 10**9)
    walltime: Annotated[str, AfterValidator(_walltime)] = "12:00"
    jobs: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(gt=0)]] = (0, 10)
    directives: Annotated[tuple[str, ...], Consent(CLUSTER)] = ()
    prologue: Annotated[tuple[str, ...], Consent(CLUSTER)] = ()
    gpu: bool = False
    options: Annotated[dict[str, Any], Consent(CLUSTER)] = Field(default_factory=dict)

    @property
    def tasks(self) -> int:
        """Tasks that one job computes at a time."""
        return 1 if self.gpu else self.cores

    @property
    def task_memory(self) -> int:
        """Bytes that each of them may use."""
        return int(USABLE * self.memory / self.tasks)

    @property
    def lifetime(self) -> int:
        """Seconds after which a worker takes no more tasks, and hands back the one at work.

        A worker that the batch system kills has failed its task, and a few failures end a run.
        """
        walltime = sum(n * part for n, part in zip((3600, 60, 1), self.time(), strict=True))
        return walltime - min(LEAVE, walltime // 4)

    def time(self) -> tuple[int, int, int]:
        """Hours, minutes and seconds of the walltime."""
        found = _WALLTIME.fullmatch(self.walltime)
        assert found is not None
        days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
        return 24 * days + hours, minutes, seconds
