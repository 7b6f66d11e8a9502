"""The fine-tuning stage: the backbone's last layers trained with the readouts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cache import UserError
from stages.conditions import Condition
from stages.failures import FailedCondition, attempt
from stages.finetune.conditions import (
    planned_tunings,
    settings_of,
    starting_readout,
    tuning_tasks,
)
from stages.finetune.cost import most_memory, planned_size, tuning_cost, tuning_memory
from stages.finetune.task import FinetuneTask
from stages.readouts.settings import ReadoutSettings
from stages.readouts.solvers import SOLVERS
from stages.stage import Crew, Planned, Progress
from stages.training.progress import EpochProgress
from stages.variant import Settings, Variant

if TYPE_CHECKING:
    from stages.costs import Cost, MemoryLimit, Workers
    from stages.executors.executor import Executor
    from stages.readouts.saved import FittedCondition


class Finetune:
    """The `[finetune]` conditions; see `stages.stage.Stage`."""

    name = "finetune"
    doing = "fine-tuning"
    verb, done = "tune", "tuned"
    example = "[finetune] last = [0, 2]"
    recomputes_tokens = True

    def readout(self, settings: Settings) -> ReadoutSettings | None:
        """The frozen readouts that the protocol starts from."""
        return starting_readout(settings)

    def check(
        self, variant: Variant, to_do: Sequence[Planned] = (), limit: MemoryLimit | None = None
    ) -> None:
        """Refuse blocks and layers that do not exist, readouts without rates, too little memory."""
        settings, readout = settings_of(variant.settings), starting_readout(variant.settings)
        if settings is None or readout is None:
            return
        if not SOLVERS[readout.solver].gives_rates(readout.of_solver):
            raise UserError(
                f'readout.{readout.solver}.output = "linear" has no rates to train on: '
                'fine-tuning starts from "elu"'
            )
        for _ in planned_tunings(variant):
            pass
        for planned in to_do:
            if limit is None or not planned.work.is_known or variant.device != "cpu":
                continue
            condition, size = (
                planned.condition,
                planned_size(planned.condition, planned.work, settings),
            )
            limit.require(
                tuning_memory(size),
                f"{condition.tuning} at block {condition.block} of {condition.model} with "
                f"{size.n_neurons} neurons and passes of {size.pass_size} trials",
                lower="lower finetune.micro_batch, or choose fewer recording.neurons",
            )

    def table(self, condition: Condition) -> str:
        """Its own."""
        return self.name

    def conditions(self, variant: Variant) -> Iterator[Planned]:
        """The tuned conditions of every recording and block."""
        return planned_tunings(variant)

    def tasks(self, variant: Variant) -> Iterator[FinetuneTask]:
        """The same as tasks."""
        return tuning_tasks(variant)

    def crew(self, tasks: Sequence[FinetuneTask], *, workers: int, devices: Sequence[str]) -> Crew:
        """On CPUs as many conditions at a time as there are cores, elsewhere one per device."""
        if devices[0] != "cpu":
            return Crew(workers=min(len(tasks), len(devices)), devices=tuple(devices))
        return Crew(
            workers=min(workers, len(tasks)),
            threads=max(task.settings.threads for task in tasks),
            needed=lambda: most_memory(tasks),
        )

    def parts(self, tasks: Sequence[FinetuneTask], executor: Executor) -> tuple[int, str]:
        """Epochs where this process trains, else conditions."""
        if executor.remote:
            return len(tasks), "conditions"
        return sum(task.settings.epochs for task in tasks), "epochs"

    def run(
        self, tasks: Sequence[FinetuneTask], executor: Executor, folder: Path, progress: Progress
    ) -> Iterator[FittedCondition | FailedCondition]:
        """Tune the conditions, each as it is done."""
        # timm takes seconds to import, and plans must do without it.
        from stages.finetune.run import finetune_condition

        limited = [replace(task, memory_limit=executor.task_memory) for task in tasks]
        if executor.remote:
            tune = partial(attempt, finetune_condition)
            for _, tuned in executor.map(tune, limited, device=limited[0].device):
                yield tuned
                progress(1)
            return
        for task in limited:
            label = f"{task.condition.tuning} at block {task.condition.block}"
            epochs = EpochProgress(progress, label, task.settings.epochs)
            yield attempt(partial(finetune_condition, progress=epochs), task)
            epochs.finish()

    def told(self, fitted: FittedCondition) -> str:
        """What was trained, and how it went."""
        counts: dict[str, int] = {}
        for name, count in fitted.extra["trained"].items():
            part = name.removeprefix("vit.")
            in_block = part.startswith("blocks.")
            layer = ".".join(part.split(".")[:2]) if in_block else part.split(".")[0]
            counts[layer] = counts.get(layer, 0) + count
        trained = ", ".join(f"{layer} {count:,}" for layer, count in counts.items())
        condition, curve = fitted.condition, fitted.readouts.curve
        best = max((epoch.validation_score for epoch in curve), default=float("nan"))
        return (
            f"{condition.recording}, {condition.tokens}, {condition.tuning} at block "
            f"{condition.block}: trained {trained} parameters; {len(curve)} epochs, "
            f"best validation score {best:.4f}"
        )

    def cost(
        self, planned: Planned, settings: Settings, workers: Workers, *, n_planned: int
    ) -> Cost | None:
        """All its epochs, at most."""
        own, work = settings_of(settings), planned.work
        if own is None or not work.is_known:
            return None
        return tuning_cost(
            planned_size(planned.condition, work, own),
            passed_blocks=work.blocks,
            epochs=work.epochs,
            n_bytes=work.n_bytes or 0,
            memory_limit=workers.task_memory,
        )
