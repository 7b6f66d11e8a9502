"""The baseline stage: CNNs trained from scratch on the responses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.baseline.conditions import baseline_tasks, planned_baselines, settings_of
from stages.baseline.cost import cnn_cost, planned_memory
from stages.baseline.settings import CNN_VIT
from stages.baseline.task import BaselineTask
from stages.stage import Planned
from stages.training.epoch import Epoch
from stages.training.stage import TrainingStage
from stages.variant import Settings, Variant

if TYPE_CHECKING:
    from stages.costs import Cost, Workers
    from stages.networks.from_pixels import FromPixels
    from stages.readouts.load import SavedReadouts
    from stages.readouts.saved import FittedCondition


class Baseline(TrainingStage):
    """The CNNs of the published comparison, alone and beside a ViT; see `stages.stage.Stage`."""

    name = "baseline"
    doing = "training CNNs"
    verb, done = "train", "trained"
    example = '[baseline] models = ["cnn_fullmodel"]'
    lower = BaselineTask.lower

    def reads_tokens(self, settings: Settings) -> bool:
        """Whether a core is trained beside cached tokens."""
        own = settings_of(settings)
        return own is not None and CNN_VIT in own.models

    def conditions(self, variant: Variant) -> Iterator[Planned]:
        """The CNNs of every recording."""
        return planned_baselines(variant)

    def tasks(self, variant: Variant) -> Iterator[BaselineTask]:
        """The same as tasks."""
        return baseline_tasks(variant)

    def needed(self, planned: Planned, variant: Variant) -> tuple[int, str] | None:
        """The memory of training."""
        settings, condition = settings_of(variant.settings), planned.condition
        assert settings is not None
        n_bytes = planned_memory(planned, settings, variant.stimuli)
        if n_bytes is None:
            return None
        return n_bytes, (
            f"{condition.model} of {condition.recording} with {planned.work.neurons} neurons and "
            f"batches of {settings.batch_size} images"
        )

    def train(
        self, task: BaselineTask, progress: Callable[[Epoch], None] | None = None
    ) -> FittedCondition:
        """Train one network, or all minimodels of a recording."""
        from stages.baseline.run import train_baseline

        return train_baseline(task, progress=progress)

    def network(
        self,
        run: Path,
        readouts: SavedReadouts,
        saved: Mapping[str, Any],
        *,
        weights: str | None,
        device: str,
    ) -> FromPixels:
        """The CNN, with the backbone beside it where there is one."""
        from stages.baseline.run import cnn_network

        key, record = saved["key"], saved["network"]
        return cnn_network(run, readouts, key, record, weights=weights, device=device)

    def cost(
        self, planned: Planned, settings: Settings, workers: Workers, *, n_planned: int
    ) -> Cost | None:
        """Where the images' size is known."""
        own = settings_of(settings)
        return None if own is None else cnn_cost(planned, own)
