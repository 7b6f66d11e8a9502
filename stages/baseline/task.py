"""One CNN baseline to be trained, and everything its result depends on."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.baseline.cnn_vit.source import VitTokens
from stages.baseline.cost import network_memory
from stages.baseline.settings import FULLMODEL, MINIMODEL, BaselineSettings
from stages.conditions import Condition
from stages.spread import PUBLISHED_FLOOR, response_scale, scale_inputs
from stages.stage import Planned, Work
from stages.stimuli.stimuli import Stimuli
from stages.training.stage import TrainingTask

#: Raised whenever the same settings give other numbers than before: old results are redone.
RESULT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class BaselineTask(TrainingTask):
    """One network, or all minimodels, of one recording: model, input size and seed are set.

    Parameters
    ----------
    stimuli : Stimuli
        The images that the recording shows, and no others.
    images_digest : str
        Their sha256, from `stages.stimuli.stimuli.digest`.
    crop : pair of int
        Raw columns to use.
    size : pair of int
        Rows and columns that the network sees.
    vit : VitTokens, optional
        What its core is trained beside.
    """

    lower = "lower baseline.batch_size, or choose fewer recording.neurons"

    stimuli: Stimuli
    images_digest: str
    crop: tuple[int, int]
    size: tuple[int, int]
    settings: BaselineSettings
    vit: VitTokens | None = None

    @property
    def inputs(self) -> dict[str, Any]:
        """Everything the result depends on."""
        settings = asdict(self.settings)
        minimodel = settings.pop("minimodel")
        for name in ("models", "blocks", "backbones", "crop", "input_size"):
            # Which model and block this is, and what of the images is used, is said below.
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
        if self.vit is not None:
            content["cache"] = self.vit.inputs
        return content | scale_inputs(self.recording.spread, floor=PUBLISHED_FLOOR)

    @property
    def scale(self) -> NDArray[np.float32]:
        """What responses are divided by, array of shape (n_neurons,)."""
        return response_scale(self.recording.spread, floor=PUBLISHED_FLOOR)

    @property
    def needs(self) -> dict[Condition, str]:
        """Minimodels start from their recording's fullmodel."""
        if self.condition.model != MINIMODEL:
            return {}
        return {self.fullmodel.condition: "fullmodel"}

    @property
    def fullmodel(self) -> BaselineTask:
        """The fullmodel whose first layer the minimodels share."""
        return replace(self, condition=replace(self.condition, model=FULLMODEL))

    @property
    def label(self) -> str:
        """Its model, block and recording."""
        block = "" if self.vit is None else f" at block {self.vit.block}"
        return f"{self.condition.model}{block} of {self.condition.recording}"

    @property
    def needed_memory(self) -> int:
        """Bytes of a process that trains it on the CPU, without the tokens that it may hold."""
        pixels = len(self.stimuli) * self.stimuli.image_shape[0] * (self.crop[1] - self.crop[0])
        work = Work(
            trials=len(self.recording.image_ids),
            neurons=self.recording.n_neurons,
            tokens=None if self.vit is None else self.vit.shape,
        )
        planned = Planned(condition=self.condition, work=work)
        return network_memory(planned, self.settings, pixels * self.stimuli.dtype.itemsize)
