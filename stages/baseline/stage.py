"""The baseline stage: CNNs trained from scratch on the responses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from stages.baseline.conditions import baseline_tasks, planned_baselines, settings_of
from stages.baseline.cost import cnn_cost, needed_memory, planned_input, planned_memory
from stages.baseline.task import MINIMODEL, BaselineTask
from stages.conditions import Condition
from stages.failures import FailedCondition, attempt
from stages.stage import Crew, Planned, Progress
from stages.training.progress import EpochProgress
from stages.variant import Settings, Variant

if TYPE_CHECKING:
    from stages.costs import Cost, MemoryLimit, Workers
    from stages.executors.executor import Executor
    from stages.readouts.saved import FittedCondition


class Baseline:
    """The CNNs of the published comparison; see `stages.stage.Stage`."""

    name = "baseline"
    doing = "training CNNs"
    verb, done = "train", "trained"
    example = '[baseline] models = ["cnn_fullmodel"]'
    recomputes_tokens = False

    def readout(self, settings: Settings) -> None:
        """A CNN starts from no readouts."""

    def check(
        self, variant: Variant, to_do: Sequence[Planned] = (), limit: MemoryLimit | None = None
    ) -> None:
        """Refuse columns that the images do not have, and memory that holds no network."""
        settings = settings_of(variant.settings)
        for _ in planned_baselines(variant):
            pass
        for planned in to_do:
            assert settings is not None
            needed = planned_memory(planned, settings, variant.stimuli)
            if limit is not None and needed is not None and variant.device == "cpu":
                condition, neurons = planned.condition, planned.work.neurons
                limit.require(
                    needed,
                    f"{condition.model} of {condition.recording} with {neurons} neurons and "
                    f"batches of {settings.batch_size} images",
                    lower="lower baseline.batch_size, or choose fewer recording.neurons",
                )

    def table(self, condition: Condition) -> str:
        """Its own."""
        return self.name

    def conditions(self, variant: Variant) -> Iterator[Planned]:
        """The CNNs of every recording."""
        return planned_baselines(variant)

    def tasks(self, variant: Variant) -> Iterator[BaselineTask]:
        """The same as tasks."""
        return baseline_tasks(variant)

    def crew(self, tasks: Sequence[BaselineTask], *, workers: int, devices: Sequence[str]) -> Crew:
        """On CPUs as many networks at a time as there are cores, elsewhere one per device."""
        if devices[0] != "cpu":
            return Crew(workers=len(devices), devices=tuple(devices))
        return Crew(
            workers=min(workers, len(tasks)),
            threads=max(task.settings.threads for task in tasks),
            needed=lambda: max(map(needed_memory, tasks)),
        )

    def parts(self, tasks: Sequence[BaselineTask], executor: Executor) -> tuple[int, str]:
        """Epochs where this process trains, else conditions."""
        if executor.remote:
            return len(tasks), "conditions"
        return sum(sum(task.settings.epochs) for task in tasks), "epochs"

    def run(
        self, tasks: Sequence[BaselineTask], executor: Executor, folder: Path, progress: Progress
    ) -> Iterator[FittedCondition | FailedCondition]:
        """Train the networks, each as it is done."""
        # torch takes seconds to import, and plans must do without it.
        from stages.baseline.run import train_baseline

        limited = [replace(task, memory_limit=executor.task_memory) for task in tasks]
        if executor.remote:
            train = partial(attempt, train_baseline)
            for _, trained in executor.map(train, limited, device=limited[0].device):
                yield trained
                progress(1)
            return
        for task in limited:
            label = f"{task.condition.model} of {task.condition.recording}"
            epochs = EpochProgress(progress, label, sum(task.settings.epochs))
            yield attempt(partial(train_baseline, progress=epochs), task)
            epochs.finish()

    def told(self, fitted: FittedCondition) -> None:
        """Nothing but counts."""

    def cost(
        self, planned: Planned, settings: Settings, workers: Workers, *, n_planned: int
    ) -> Cost | None:
        """Where the images' size is known."""
        own, work = settings_of(settings), planned.work
        size = planned_input(planned.condition)
        if own is None or size is None or not work.is_known:
            return None
        return cnn_cost(
            own,
            input_size=size,
            n_trials=work.trials or 0,
            n_neurons=work.neurons or 0,
            minimodels=planned.condition.model == MINIMODEL,
        )
