"""Tasks that train a network, and the stages that compute them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from cache import content_key
from stages.conditions import Condition
from stages.costs import MemoryLimit
from stages.executors.reports import map_reporting, report
from stages.executors.resources import cpu_threads
from stages.failures import FailedCondition, attempt
from stages.readouts.saved import FittedCondition
from stages.recordings.recording import Recording
from stages.scores import mean_responses, score, variance_explained
from stages.settings import readable
from stages.stage import Crew, Planned, Progress, Stage
from stages.training.checkpoints import Checkpoint, kept_path
from stages.training.epoch import Epoch
from stages.variant import Variant

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stages.executors.executor import Executor
    from stages.readouts.readout import Readouts


@dataclass(frozen=True, kw_only=True)
class TrainingTask(ABC):
    """One condition whose network is trained; see `stages.stage.Task`.

    Parameters
    ----------
    condition : Condition
    recording : Recording
        Responses as recorded.
    recording_digest : str
        From `digest_recording`.
    run : path
        The run's output folder, for checkpoints and trained weights.
    settings : dataclass
        How to train; they have `threads`, on the CPU, and `epochs`.
    device : str
        "cpu" or a CUDA device.
    memory_limit : int, optional
        Bytes that the process may use; changes no result.
    """

    #: What makes it need less memory.
    lower: ClassVar[str]

    condition: Condition
    recording: Recording
    recording_digest: str
    run: Path
    settings: Any
    device: str = "cpu"
    memory_limit: int | None = None

    @property
    @abstractmethod
    def inputs(self) -> dict[str, Any]:
        """Everything the result depends on."""

    @property
    @abstractmethod
    def needs(self) -> dict[Condition, str]:
        """Conditions that it starts from, and what messages call these."""

    @property
    @abstractmethod
    def label(self) -> str:
        """What a progress bar calls it."""

    @property
    @abstractmethod
    def needed_memory(self) -> int:
        """Bytes that a process needs at least to compute it on the CPU."""

    @property
    def epochs(self) -> int:
        """At most so many; `settings.epochs` has them together, or phase by phase."""
        return int(np.sum(self.settings.epochs))

    @property
    def key(self) -> str:
        """Hash of everything the result depends on."""
        return content_key(self.inputs)

    @property
    def checkpoint(self) -> Checkpoint:
        """Where an interrupted training goes on."""
        return Checkpoint(self.run / "checkpoints" / f"{self.key}.pt", self.key)

    @property
    def weights_path(self) -> Path:
        """Where the trained weights are kept."""
        return kept_path(self.run, self.condition.slug, self.key)

    @property
    def products(self) -> tuple[Path, ...]:
        """The trained weights."""
        return (self.weights_path,)

    def clean_up(self) -> None:
        """Remove the checkpoint."""
        self.checkpoint.remove()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Have torch compute on the task's threads inside.

        Raises
        ------
        UserError
            A memory limit that cannot be kept.
        """
        if self.device == "cpu" and self.memory_limit is not None:
            limit = MemoryLimit(self.memory_limit, f"a worker has {readable(self.memory_limit)}")
            limit.require(self.needed_memory, self.condition.slug, lower=self.lower)
        with cpu_threads(self.settings.threads):
            yield

    def fitted(
        self,
        readouts: Readouts,
        *,
        test: NDArray[np.float32],
        validation: NDArray[np.float32],
        seconds: float,
        **more: Any,
    ) -> FittedCondition:
        """The outcome, scored; `more` are further fields of `FittedCondition`.

        Parameters
        ----------
        test, validation : array of shape (n_images, n_neurons)
            Predictions in the recording's units.
        """
        recording = self.recording
        explained = variance_explained(recording.responses[recording.validation], validation)
        return FittedCondition(
            condition=self.condition,
            key=self.key,
            inputs=self.inputs,
            readouts=readouts,
            columns=score(recording, test, explained=explained),
            test_image_ids=recording.test_image_ids,
            test_predictions=test,
            test_responses=mean_responses(recording),
            seconds=seconds,
            **more,
        )


class TrainingStage(Stage):
    """A stage whose tasks train a network each."""

    #: What makes its tasks need less memory.
    lower: str

    @abstractmethod
    def train(self, task: Any, progress: Callable[[Epoch], None] | None = None) -> FittedCondition:
        """Compute a task; torch is imported inside, since plans must do without it."""

    @abstractmethod
    def needed(self, planned: Planned, variant: Variant) -> tuple[int, str] | None:
        """Bytes that a condition needs on the CPU, and what needs them; None where unknown."""

    def check(
        self, variant: Variant, to_do: Sequence[Planned] = (), limit: MemoryLimit | None = None
    ) -> None:
        """Refuse conditions that cannot be, and memory that holds no network."""
        for _ in self.conditions(variant):
            pass
        for planned in to_do:
            needed = self.needed(planned, variant)
            if needed is not None and limit is not None and variant.device == "cpu":
                limit.require(*needed, lower=self.lower)

    def crew(self, tasks: Sequence[TrainingTask], *, workers: int, devices: Sequence[str]) -> Crew:
        """On CPUs as many networks at a time as there are cores, elsewhere one per device."""
        if devices[0] != "cpu":
            return Crew(workers=len(devices), devices=tuple(devices))
        return Crew(
            workers=min(workers, len(tasks)),
            threads=max(task.settings.threads for task in tasks),
            needed=lambda: max(task.needed_memory for task in tasks),
        )

    def parts(self, tasks: Sequence[TrainingTask], executor: Executor) -> tuple[int, str]:
        """Epochs, at most."""
        return sum(task.epochs for task in tasks), "epochs"

    def run(
        self, tasks: Sequence[TrainingTask], executor: Executor, folder: Path, progress: Progress
    ) -> Iterator[FittedCondition | FailedCondition]:
        """Train the networks, each as it is done."""
        limited = [replace(task, memory_limit=executor.task_memory) for task in tasks]
        return map_reporting(
            executor,
            partial(attempt, partial(_trained, self.train)),
            limited,
            name=attrgetter("condition.slug"),
            label=attrgetter("condition.label"),
            sizes=[task.epochs for task in limited],
            folder=folder / "reports",
            progress=progress,
            device=limited[0].device,
        )


def _trained(train: Callable[..., FittedCondition], task: TrainingTask) -> FittedCondition:
    """Train one network, and report every epoch."""

    def on_epoch(epoch: Epoch) -> None:
        report(epoch.epoch + 1, task.epochs, epoch.told(task.epochs))

    report(0, task.epochs, "begins")
    return train(task, progress=on_epoch)
