"""Settings of fine-tuning, and its protocols."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from stages.settings import DISTINCT, STRICT, NonNegative, Positive, PositiveFloat

#: How many layers are tuned, counted back from the readout block.
Last = Annotated[int, Field(ge=0)] | Literal["full"]


def _of_one_backbone(blocks: Any) -> Any:
    """Blocks as they are, refused where one is named as those of a combined readout are."""
    named = blocks if isinstance(blocks, list | tuple) else [blocks]
    if any(isinstance(each, str) and ":" in each for each in named):
        raise PydanticCustomError(
            "combined",
            "fine-tuning starts from one backbone, not from a combined condition: name its blocks "
            "by their numbers",
        )
    return blocks


@dataclass(frozen=True, kw_only=True, config=STRICT)
class FinetuneSettings:
    """Which layers of the backbone are trained end to end with the readouts, and how.

    Parameters
    ----------
    last : list of int or "full"
        Layers to tune, counted back from the readout block k: k, k-1, ..., 0, and below block 0
        the embeddings (patch projection, CLS, registers, learned positions), which count as one
        layer. 0 trains the readouts alone, "full" is k + 2.
    blocks : "all" or list of int, optional
        Readout blocks; those of `[readout]` by default.
    tokens : list of str, optional
        Token kinds; those of `[readout]` by default.
    protocol : str
        "matched" starts from the readouts of the experiment's solver and keeps each neuron's own
        penalty, so that tuned and frozen differ in nothing but what is tuned. "minimodel-vit" is
        the published one: it starts from the "adamw" readouts and relaxes their penalty.
    start : str
        "cache" starts from cached tokens wherever the blocks below are frozen; "images" never does.
    batch_size : int
        Trials per step.
    micro_batch : int, optional
        Trials per pass where a whole batch does not fit into memory; gradients are summed.
    epochs, patience : int
        At most so many epochs, and so many without a better mean validation score.
    backbone_rate, readout_rate : float
        Learning rates at the start of a cosine over `epochs`.
    final_rate : float
        Learning rate at its end.
    backbone_decay : float
        AdamW weight decay of the tuned layers.
    clip_norm : float, optional
        Bound of the norm of all gradients together; none where absent.
    rope_rescale : float, optional
        Every batch that is trained on, the coordinates of the backbone's rotary embedding are
        multiplied by a random factor between 1 / `rope_rescale` and `rope_rescale`, uniform in its
        logarithm. All training then starts from images.
    precision : str, optional
        "float32", or "bfloat16" for autocast; the backbone's by default.
    compile : bool
        Compile the model: faster on accelerators after a slow start. Where torch cannot compile, a
        warning says so and training goes on without.
    threads : int
        CPU threads per condition. Sums are rounded differently with another number, so it is part
        of what a result is identified by.
    """

    last: Annotated[tuple[Last, ...], DISTINCT] = (0, 2, 4, "full")
    blocks: Annotated[
        Literal["all"] | tuple[int, ...] | None, DISTINCT, BeforeValidator(_of_one_backbone)
    ] = None
    tokens: Annotated[tuple[Literal["patch", "cls"], ...] | None, DISTINCT] = None
    protocol: Literal["matched", "minimodel-vit"] = "matched"
    start: Literal["cache", "images"] = "cache"
    batch_size: Positive = 32
    micro_batch: Positive | None = None
    epochs: Annotated[int, Field(ge=0)] = 100
    patience: Positive = 5
    backbone_rate: PositiveFloat = 1e-5
    readout_rate: PositiveFloat = 1e-3
    final_rate: NonNegative = 1e-7
    backbone_decay: NonNegative = 1e-2
    clip_norm: PositiveFloat | None = 1.0
    rope_rescale: Annotated[float, Field(ge=1, allow_inf_nan=False)] | None = None
    precision: Literal["float32", "bfloat16"] | None = None
    compile: bool = False
    threads: Positive = 1

    @property
    def pass_size(self) -> int:
        """Trials per pass."""
        return self.micro_batch or self.batch_size


@dataclass(frozen=True, kw_only=True)
class TuningProtocol:
    """What a protocol's name stands for.

    Parameters
    ----------
    solver : str, optional
        Whose frozen readouts it starts from; the experiment's where absent.
    readout_decay : float
        AdamW weight decay of the readouts.
    penalty : float, optional
        Factor of each neuron's squared weights in the loss of a batch; the frozen fit's own where
        absent.
    start_counts : bool
        Whether the frozen fit is the result where no epoch is better. Else an epoch always is.
    """

    solver: Literal["adamw"] | None
    readout_decay: float
    penalty: float | None
    start_counts: bool


PROTOCOLS = {
    "matched": TuningProtocol(solver=None, readout_decay=0.0, penalty=None, start_counts=True),
    "minimodel-vit": TuningProtocol(
        solver="adamw",
        readout_decay=1e-5,
        penalty=1e-4,
        start_counts=False,
    ),
}
