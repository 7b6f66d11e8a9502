"""A stage of the pipeline: what it refuses, plans, computes and costs, said the same way by all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from stages.conditions import Condition

if TYPE_CHECKING:
    from cache import TokenShape
    from stages.costs import Cost, MemoryLimit, Workers
    from stages.executors.executor import Executor
    from stages.failures import FailedCondition
    from stages.networks.from_pixels import FromPixels
    from stages.readouts.load import SavedReadouts
    from stages.readouts.saved import FittedCondition
    from stages.readouts.settings import ReadoutSettings
    from stages.variant import Settings, Variant


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
    operations : float, optional
        Floating-point operations of one image through the backbone, where they were counted.
    incomplete : bool
        Whether responses are known to be missing.
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
    operations: float | None = None
    incomplete: bool = False

    @property
    def is_known(self) -> bool:
        """Whether nothing of it waits for a file that is not at hand."""
        return None not in (self.images, self.trials, self.test_images, self.neurons)


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One condition of a stage, before anything is computed.

    Parameters
    ----------
    condition : Condition
        Its identity.
    work : Work
        What it has to do.
    needs : sequence of str
        Names of the steps that come before it: a cache's, or conditions' slugs.
    missing : mapping
        Files that it needs and that are not there, by the setting that names them.
    """

    condition: Condition
    work: Work
    needs: tuple[str, ...] = ()
    missing: Mapping[str, Path] = field(default_factory=dict)


class Task(Protocol):
    """What is computed for one condition: a frozen dataclass that any process can be given."""

    @property
    def condition(self) -> Condition:
        """Its identity."""

    @property
    def inputs(self) -> Mapping[str, Any]:
        """Everything that the result depends on."""

    @property
    def key(self) -> str:
        """Hash of the inputs."""

    @property
    def needs(self) -> Mapping[Condition, str]:
        """Conditions whose saved results it starts from, and what messages call these results."""

    @property
    def products(self) -> Sequence[Path]:
        """Files that the result consists of, besides what all conditions save."""

    def clean_up(self) -> None:
        """Remove what only an unfinished computation needs."""


class Progress(Protocol):
    """Tells a person how far a stage is."""

    def __call__(self, done: float, /, text: str | None = None) -> None:
        """So many parts, whole ones or less, are done since; `text` says what was done last."""


@dataclass(frozen=True, kw_only=True)
class Crew:
    """Workers that some tasks can use.

    Parameters
    ----------
    workers : int
        Tasks, or parts of them, that may be computed at a time.
    threads : int
        Cores that each takes.
    needed : callable, optional
        Bytes that a worker needs at least; asked only where several could be started.
    devices : sequence of str
        Where tasks compute; with several, each has one to itself.
    """

    workers: int
    threads: int = 1
    needed: Callable[[], int] | None = None
    devices: tuple[str, ...] = ("cpu",)


class Stage(Protocol):
    """One stage that fits conditions; its name is that of its table and of its command.

    Parameters
    ----------
    name : str
        Such as "fit".
    doing : str
        What a progress bar says, such as "fitting readouts".
    verb, done : str
        What it does to a condition, and what this is afterwards, such as "fit" and "fitted".
    example : str
        What its table could be, for an experiment that has none; empty where it needs none.
    recomputes_tokens : bool
        Whether it computes tokens itself where there is no cache.
    """

    name: str
    doing: str
    verb: str
    done: str
    example: str = ""
    recomputes_tokens: bool = False

    def table(self, condition: Condition) -> str:
        """Table of the experiment file that a condition's settings stand in, for messages."""
        return self.name

    def readout(self, settings: Settings) -> ReadoutSettings | None:
        """Frozen readouts that its conditions start from, where they start from any."""
        return None

    def reads_tokens(self, settings: Settings) -> bool:
        """Whether its conditions may read other tokens than those of the experiment's readouts."""
        return self.readout(settings) is not None

    def check(
        self, variant: Variant, to_do: Sequence[Planned] = (), limit: MemoryLimit | None = None
    ) -> None:
        """Refuse what could not be finished, before anything is done.

        Parameters
        ----------
        to_do : sequence of Planned
            Conditions that are to be computed.
        limit : MemoryLimit, optional
            Of one task; None where only workers know it.

        Raises
        ------
        UserError
            Settings that contradict each other or the data, or a limit that cannot be kept.
        """

    def conditions(self, variant: Variant) -> Iterator[Planned]:
        """Every condition of a variant, in the order of the tables; works without the data."""

    def tasks(self, variant: Variant) -> Iterator[Task]:
        """The same as tasks; recordings and the identity of the tokens must be at hand."""

    def crew(self, tasks: Sequence[Any], *, workers: int, devices: Sequence[str]) -> Crew:
        """Workers that tasks can use of `workers` cores and the given devices."""

    def parts(self, tasks: Sequence[Any], executor: Executor) -> tuple[int, str]:
        """How many parts `run` reports, and what they are called, such as "conditions"."""

    def run(
        self, tasks: Sequence[Any], executor: Executor, folder: Path, progress: Progress
    ) -> Iterator[FittedCondition | FailedCondition]:
        """Compute tasks, none of which needs another of them; each as it is done, in any order.

        Parameters
        ----------
        folder : path
            That all workers see, for what parts of a task leave to each other.

        Raises
        ------
        WorkersDied
            The same task lost its worker several times.
        """

    def told(self, fitted: FittedCondition) -> str | None:
        """A line about a condition that was just computed, where counts do not say it."""
        return None

    def network(
        self,
        run: Path,
        readouts: SavedReadouts,
        saved: Mapping[str, Any],
        *,
        weights: str | None,
        device: str,
    ) -> FromPixels:
        """The network of one of its saved conditions, from raw pixels to rates.

        Parameters
        ----------
        run : path
            The run's folder.
        saved : mapping
            Attributes of the saved condition; `network` says what it is built from.
        weights : str, optional
            File of the backbone's weights, where it has moved since.
        device : str
            Where it computes.

        Raises
        ------
        UserError
            Weights that are not at hand, or are others.
        """

    def cost(
        self, planned: Planned, settings: Settings, workers: Workers, *, n_planned: int
    ) -> Cost | None:
        """What one condition costs; None where its sizes cannot be told.

        Parameters
        ----------
        n_planned : int
            Conditions of this stage that are to be computed.
        """
