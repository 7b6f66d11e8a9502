"""One condition to be tuned: which layers, and everything its result depends on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from cache import TokenShape, UserError
from stages.backbones.settings import BackboneSettings
from stages.conditions import Condition
from stages.finetune.cost import tuning_memory
from stages.finetune.settings import PROTOCOLS, FinetuneSettings, Last
from stages.stage import Planned, Work
from stages.stimuli.stimuli import Stimuli
from stages.training.stage import TrainingTask

#: Raised whenever the same settings give other numbers than before: old results are redone.
RESULT_VERSION = 2


def first_tuned_block(last: int | Literal["full"], block: int) -> int:
    """The lowest tuned block when `last` layers are tuned back from `block`.

    Layers are the blocks, and the embeddings below block 0. `block` + 1 where no layer is tuned, -1
    where the embeddings are.

    Raises
    ------
    UserError
        More layers than there are.
    """
    layers = block + 2
    if last == "full":
        return -1
    if last > layers:
        raise UserError(
            f"last = {last} at block {block}: only {layers} layers exist (embeddings and blocks "
            f'0..{block}); choose finetune.last from 0..{layers} or "full"'
        )
    return block + 1 - last


def starting_block(first_tuned: int) -> int | None:
    """The block whose cached tokens training can start from; None where it needs the images."""
    return first_tuned - 1 if first_tuned > 0 else None


@dataclass(frozen=True, kw_only=True)
class FinetuneTask(TrainingTask):
    """One condition to be tuned, with tuning, protocol, tokens, block, solver and seed set.

    Parameters
    ----------
    last : int or "full"
        Layers to tune.
    frozen : Condition
        Whose saved readouts it starts from.
    frozen_key : str
        Hash of everything those depend on.
    backbone : BackboneSettings
        Made afresh by each task.
    shape : TokenShape
        Of the backbone.
    input_size : pair of int
        Rows and columns the backbone sees.
    cache_path, cache_key, images_sha256 : str
        The tokens that the frozen readouts read, as `FitTask` has them.
    weights, weights_label : mapping, str
        Identity of the weights that gave them, and what results say of it.
    start : str
        What the model is fed with: "cache" or "images".
    penalty : float, optional
        What squared weights cost per trial in the frozen fit, where all neurons share it.
    network : mapping
        What the backbone sees, from `backbone_record`; saved with the result.
    stimuli, crop : Stimuli, pair of int, optional
        The raw images, and which columns of them, to start from images.
    """

    lower = "lower finetune.micro_batch, or choose fewer recording.neurons"

    last: Last
    frozen: Condition
    frozen_key: str
    backbone: BackboneSettings
    shape: TokenShape
    input_size: tuple[int, int]
    cache_path: str
    cache_key: str
    weights: Mapping[str, Any]
    weights_label: str
    start: Literal["cache", "images"]
    penalty: float | None
    settings: FinetuneSettings
    network: Mapping[str, Any]
    images_sha256: str | None = None
    stimuli: Stimuli | None = None
    crop: tuple[int, int] | None = None

    @property
    def inputs(self) -> dict[str, Any]:
        """Everything the result depends on."""
        settings = asdict(self.settings) | {"precision": self.precision}
        for name in ("last", "blocks", "tokens", "start"):
            # They name conditions; which one this is, the identity and the start say.
            del settings[name]
        protocol = asdict(PROTOCOLS[self.settings.protocol])
        # Results of versions that knew nothing else stay up to date.
        if protocol["start_counts"]:
            del protocol["start_counts"]
        if settings["rope_rescale"] is None:
            del settings["rope_rescale"]
        return {
            "condition": self.condition.identity(),
            "frozen": self.frozen_key,
            "recording": self.recording_digest,
            "tokens": self.cache_key,
            "start": self.start,
            "settings": settings,
            "protocol": protocol,
            "version": RESULT_VERSION,
        }

    @property
    def needs(self) -> dict[Condition, str]:
        """The readouts that it starts from."""
        return {self.frozen: "frozen readouts"}

    @property
    def label(self) -> str:
        """Its layers and block."""
        return f"{self.condition.tuning} at block {self.condition.block}"

    @property
    def needed_memory(self) -> int:
        """Bytes without the tokens that it may hold."""
        work = Work(
            trials=len(self.recording.image_ids),
            neurons=self.recording.n_neurons,
            tuned_blocks=self.block + 1 - max(0, first_tuned_block(self.last, self.block)),
            tokens=self.shape,
        )
        return tuning_memory(Planned(condition=self.condition, work=work), self.settings)

    @property
    def block(self) -> int:
        """The readout block."""
        assert self.condition.block is not None
        return self.condition.block

    @property
    def precision(self) -> str:
        """Of the forward pass: the backbone's where nothing else is asked for."""
        return self.settings.precision or self.backbone.precision
