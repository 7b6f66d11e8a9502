"""One CNN baseline to be trained, and everything its result depends on."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cache import content_key
from stages.baseline.settings import BaselineSettings
from stages.conditions import Condition
from stages.recordings.recording import Recording
from stages.stimuli.stimuli import Stimuli
from stages.training.checkpoints import Checkpoint, kept_path

if TYPE_CHECKING:
    from stages.training.loop import LoopSettings

#: Raised whenever the same settings give other numbers than before: old results are redone.
RESULT_VERSION = 1

FULLMODEL = "cnn_fullmodel"
MINIMODEL = "cnn_minimodel"


@dataclass(frozen=True, kw_only=True)
class BaselineTask:
    """The fullmodel, or all minimodels, of one recording.

    Parameters
    ----------
    condition : Condition
        With model, input size and seed set.
    recording : Recording
        Responses as recorded.
    recording_digest : str
        From `digest_recording`.
    stimuli : Stimuli
        The images that the recording shows, and no others.
    images_digest : str
        Their sha256, from `stages.stimuli.stimuli.digest`.
    crop : pair of int
        Raw columns to use.
    size : pair of int
        Rows and columns that the network sees.
    settings : BaselineSettings
        How to train.
    run : path
        The run's output folder, for checkpoints and trained weights.
    device : str
        "cpu" or a CUDA device.
    memory_limit : int, optional
        Bytes that the process may use on the CPU; changes no result. A GPU has its own.
    """

    condition: Condition
    recording: Recording
    recording_digest: str
    stimuli: Stimuli
    images_digest: str
    crop: tuple[int, int]
    size: tuple[int, int]
    settings: BaselineSettings
    run: Path
    device: str = "cpu"
    memory_limit: int | None = None

    @property
    def inputs(self) -> dict[str, Any]:
        """Everything the result depends on."""
        settings = asdict(self.settings)
        minimodel = settings.pop("minimodel")
        for name in ("models", "crop", "input_size"):
            # Which model this is, and what of the images is used, is said below.
            del settings[name]
        content: dict[str, Any] = {
            "condition": self.condition.identity(),
            "recording": self.recording_digest,
            "images": self.images_digest,
            "crop": list(self.crop),
            "settings": settings,
            "version": RESULT_VERSION,
        }
        if self.condition.model == MINIMODEL:
            content |= {"minimodel": minimodel, "fullmodel": self.fullmodel.key}
        return content

    @property
    def key(self) -> str:
        """Hash of everything the result depends on."""
        return content_key(self.inputs)

    @property
    def needs(self) -> dict[Condition, str]:
        """Minimodels start from their recording's fullmodel."""
        if self.condition.model == FULLMODEL:
            return {}
        return {self.fullmodel.condition: "fullmodel"}

    @property
    def products(self) -> tuple[Path, ...]:
        """The trained networks, which minimodels start from."""
        return (self.weights_path,)

    def clean_up(self) -> None:
        """Remove the checkpoint."""
        self.checkpoint.remove()

    @property
    def fullmodel(self) -> BaselineTask:
        """The fullmodel whose first layer the minimodels share."""
        return replace(self, condition=replace(self.condition, model=FULLMODEL))

    @property
    def checkpoint(self) -> Checkpoint:
        """Where an interrupted training goes on."""
        return Checkpoint(self.run / "checkpoints" / f"{self.key}.pt", self.key)

    @property
    def weights_path(self) -> Path:
        """Where the trained networks are kept."""
        return kept_path(self.run, self.condition.slug, self.key)

    @property
    def loop(self) -> LoopSettings:
        """How the training runs."""
        # torch takes seconds to import, and plans must do without it.
        from stages.training.loop import LoopSettings

        return LoopSettings(
            batch_size=self.settings.batch_size,
            patience=self.settings.patience,
            start_counts=False,
            seed=self.condition.seed,
            what=f"{self.condition.model} of {self.condition.recording}",
            remedy="lower baseline.batch_size, or choose fewer recording.neurons",
        )
