"""The fine-tuning stage: the backbone's last layers trained with the readouts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cache import UserError
from stages.backbones.families import refuse_layers
from stages.finetune.conditions import (
    planned_tunings,
    settings_of,
    starting_readout,
    tuning_tasks,
)
from stages.finetune.cost import tuning_cost, tuning_memory
from stages.finetune.task import FinetuneTask
from stages.readouts.settings import ReadoutSettings
from stages.readouts.solvers import SOLVERS
from stages.stage import Planned
from stages.training.epoch import Epoch
from stages.training.stage import TrainingStage
from stages.variant import Settings, Variant

if TYPE_CHECKING:
    from stages.costs import Cost, MemoryLimit, Workers
    from stages.networks.from_pixels import FromPixels
    from stages.readouts.load import SavedReadouts
    from stages.readouts.saved import FittedCondition


class Finetune(TrainingStage):
    """The `[finetune]` conditions; see `stages.stage.Stage`."""

    name = "finetune"
    doing = "fine-tuning"
    verb, done = "tune", "tuned"
    example = "[finetune] last = [0, 2]"
    recomputes_tokens = True
    lower = FinetuneTask.lower

    def readout(self, settings: Settings) -> ReadoutSettings | None:
        """The frozen readouts that the protocol starts from."""
        return starting_readout(settings)

    def check(
        self, variant: Variant, to_do: Sequence[Planned] = (), limit: MemoryLimit | None = None
    ) -> None:
        """Refuse blocks and layers that do not exist, readouts without rates, too little memory."""
        readout = starting_readout(variant.settings)
        if readout and not SOLVERS[readout.solver].gives_rates(readout.of_solver):
            raise UserError(
                f'readout.{readout.solver}.output = "linear" has no rates to train on: '
                'fine-tuning starts from "elu"'
            )
        if readout and not variant.layered:
            name = variant.settings.backbone.name
            raise refuse_layers("finetune", name, "drop [finetune]")
        finetune = settings_of(variant.settings)
        if finetune is not None and finetune.rope_rescale is not None:
            _check_rotary(variant, finetune.rope_rescale)
        super().check(variant, to_do, limit)

    def conditions(self, variant: Variant) -> Iterator[Planned]:
        """The tuned conditions of every recording and block."""
        return planned_tunings(variant)

    def tasks(self, variant: Variant) -> Iterator[FinetuneTask]:
        """The same as tasks."""
        return tuning_tasks(variant)

    def needed(self, planned: Planned, variant: Variant) -> tuple[int, str] | None:
        """The memory of training, without the tokens that it may hold."""
        condition, settings = planned.condition, settings_of(variant.settings)
        if settings is None or not planned.work.is_known:
            return None
        return tuning_memory(planned, settings), (
            f"{condition.tuning} at block {condition.block} of {condition.model} with "
            f"{planned.work.neurons} neurons and passes of {settings.pass_size} trials"
        )

    def train(
        self, task: FinetuneTask, progress: Callable[[Epoch], None] | None = None
    ) -> FittedCondition:
        """Tune one condition."""
        from stages.finetune.run import finetune_condition

        return finetune_condition(task, progress=progress)

    def network(
        self,
        run: Path,
        readouts: SavedReadouts,
        saved: Mapping[str, Any],
        *,
        weights: str | None,
        device: str,
    ) -> FromPixels:
        """The tuned backbone."""
        from stages.finetune.network import tuned_network

        key, record = saved["key"], saved["network"]
        return tuned_network(run, readouts, key, record, weights=weights, device=device)

    def told(self, fitted: FittedCondition) -> str:
        """What was trained, and how it went."""
        counts: Counter[str] = Counter()
        for name, count in fitted.extra["trained"].items():
            first, *rest = name.removeprefix("vit.").split(".")
            counts[f"{first}.{rest[0]}" if rest and rest[0].isdigit() else first] += count
        trained = ", ".join(f"{layer} {count:,}" for layer, count in counts.items())
        condition, curve = fitted.condition, fitted.readouts.curve
        best = max((epoch.validation_score for epoch in curve), default=float("nan"))
        kept = ", none better than the start, which is kept" if fitted.extra["kept_start"] else ""
        return (
            f"{condition.recording}, {condition.tokens}, {condition.tuning} at block "
            f"{condition.block}: trained {trained} parameters; {len(curve)} epochs, "
            f"best validation score {best:.4f}{kept}"
        )

    def cost(
        self, planned: Planned, settings: Settings, workers: Workers, *, n_planned: int
    ) -> Cost | None:
        """All its epochs, at most."""
        own = settings_of(settings)
        if own is None or not planned.work.is_known:
            return None
        return tuning_cost(planned, own, memory_limit=workers.task_memory)


def _check_rotary(variant: Variant, factor: float) -> None:
    """Refuse a backbone whose rotary coordinates cannot be rescaled."""
    from stages.backbones import plan_token_shape

    backbone, size = variant.settings.backbone, variant.settings.stimuli.size
    if variant.token_shape.passes > 1:
        raise UserError(
            f'finetune.rope_rescale = {factor:g} with backbone.dense = "shift": each pass would '
            'have a scale of its own; leave it out, or set backbone.dense = "overlap"'
        )
    try:
        plan_token_shape(backbone.rescaling(factor), input_size=size, dtype="float32")
    except UserError as error:
        raise UserError(
            f'finetune.rope_rescale = {factor:g}: backbone.name = "{backbone.name}" has no rotary '
            f"embedding to rescale; leave it out ({error})"
        ) from None
