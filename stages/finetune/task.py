"""One condition to be tuned: which layers, and everything its result depends on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from cache import UserError, content_key
from stages.backbones.settings import BackboneSettings
from stages.conditions import Condition
from stages.finetune.settings import PROTOCOLS, FinetuneSettings, Last
from stages.recordings.recording import Recording
from stages.stimuli.stimuli import Stimuli
from stages.training.checkpoints import Checkpoint, kept_path

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
class ImageSource:
    """Images, and how they are cut.

    Parameters
    ----------
    stimuli : Stimuli
        The raw images.
    crop : pair of int
        Raw columns to use.
    """

    stimuli: Stimuli
    crop: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class FinetuneTask:
    """One condition to be tuned.

    Parameters
    ----------
    condition : Condition
        With tuning, protocol, tokens, block, solver and seed set.
    last : int or "full"
        Layers to tune.
    frozen : Condition
        Whose saved readouts it starts from.
    frozen_key : str
        Hash of everything those depend on.
    run : path
        The run's output folder, where those are, and checkpoints and tuned weights go.
    recording : Recording
        Responses as recorded.
    recording_digest : str
        From `digest_recording`.
    backbone : BackboneSettings
        Made afresh by each task.
    input_size : pair of int
        Rows and columns the backbone sees.
    cache_path, cache_key : str
        The tokens that the frozen readouts read.
    weights, weights_label : mapping, str
        Identity of the weights that gave them, and what results say of it.
    start : str
        What the model is fed with: "cache" or "images".
    penalty : float, optional
        What squared weights cost per trial in the frozen fit, where all neurons share it.
    settings : FinetuneSettings
        How to train.
    device : str
        "cpu" or a CUDA device.
    images : ImageSource, optional
        Needed to start from images.
    memory_limit : int, optional
        Bytes that the process may use; changes no result.
    """

    condition: Condition
    last: Last
    frozen: Condition
    frozen_key: str
    run: Path
    recording: Recording
    recording_digest: str
    backbone: BackboneSettings
    input_size: tuple[int, int]
    cache_path: str
    cache_key: str
    weights: Mapping[str, Any]
    weights_label: str
    start: Literal["cache", "images"]
    penalty: float | None
    settings: FinetuneSettings
    device: str = "cpu"
    images: ImageSource | None = None
    memory_limit: int | None = None

    @property
    def inputs(self) -> dict[str, Any]:
        """Everything the result depends on."""
        settings = asdict(self.settings) | {"precision": self.precision}
        for name in ("last", "blocks", "tokens", "start"):
            # They name conditions; which one this is, the identity and the start say.
            del settings[name]
        return {
            "condition": self.condition.identity(),
            "frozen": self.frozen_key,
            "recording": self.recording_digest,
            "tokens": self.cache_key,
            "start": self.start,
            "settings": settings,
            "protocol": asdict(PROTOCOLS[self.settings.protocol]),
            "version": RESULT_VERSION,
        }

    @property
    def key(self) -> str:
        """Hash of everything the result depends on."""
        return content_key(self.inputs)

    @property
    def needs(self) -> dict[Condition, str]:
        """The readouts that it starts from."""
        return {self.frozen: "frozen readouts"}

    @property
    def products(self) -> tuple[Path, ...]:
        """The tuned weights."""
        return (self.tuned_path,)

    def clean_up(self) -> None:
        """Remove the checkpoint."""
        self.checkpoint.remove()

    @property
    def precision(self) -> str:
        """Of the forward pass: the backbone's where nothing else is asked for."""
        return self.settings.precision or self.backbone.precision

    @property
    def checkpoint(self) -> Checkpoint:
        """Where an interrupted run goes on."""
        return Checkpoint(self.run / "checkpoints" / f"{self.key}.pt", self.key)

    @property
    def tuned_path(self) -> Path:
        """Where the trained weights are kept."""
        return kept_path(self.run, self.condition.slug, self.key)
