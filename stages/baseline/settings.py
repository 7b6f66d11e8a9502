"""Settings of the CNN baselines; the defaults are the published protocol."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic.dataclasses import dataclass

from cache import UserError
from stages.settings import DISTINCT, STRICT, NonNegative, Positive, PositiveFloat

FULLMODEL: Final = "cnn_fullmodel"
MINIMODEL: Final = "cnn_minimodel"
CNN_VIT: Final = "cnn_vit"


def _odd(size: int) -> int:
    if size % 2 == 0:
        raise ValueError("a kernel's size must be odd, so that its output has its input's size")
    return size


Odd = Annotated[Positive, AfterValidator(_odd)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MinimodelSettings:
    """Where the minimodels, one per neuron, differ from the fullmodel.

    Parameters
    ----------
    channels : int
        Channels of the second layer.
    channel_decay : float
        AdamW weight decay of the channel weights.
    initial_scale : float
        Standard deviation of the initial channel weights.
    sparsity : float
        Factor of |Wc|_1^2 / |Wc|_2^2 in a neuron's loss, which is summed over the batch.
    """

    channels: Positive = 64
    channel_decay: NonNegative = 0.2
    initial_scale: PositiveFloat = 0.2
    sparsity: NonNegative = 0.03


@dataclass(frozen=True, kw_only=True, config=STRICT)
class BaselineSettings:
    """Task-optimised CNNs, trained from scratch on the responses.

    Parameters
    ----------
    models : tuple of str
        "cnn_fullmodel", one network for all neurons; "cnn_minimodel", one per neuron on the
        fullmodel's first layer; "cnn_vit", the fullmodel's core beside cached tokens of the frozen
        backbone.
    blocks : "all" or list of int, optional
        Blocks whose patch tokens "cnn_vit" reads, one each; those of `[readout]` by default.
    backbones : list of str, optional
        Backbones of a sweep beside which "cnn_vit" is trained, called as results call them; all
        by default.
    kernels : pair of int
        Sizes of the first and the second layer's kernels, in pixels of their inputs; odd.
    channels : pair of int
        Channels of the first and the second layer.
    crop : pair of int, optional
        [first, last) in raw columns. By default what suits the format: 0..130 of a minimodel
        recording (46..176 for FX20), all columns otherwise.
    input_size : pair of int, optional
        Rows and columns the network sees; by default those of the cropped images.
    batch_size : int
        Images per step.
    learning_rate : float
        Of the first phase; each further one has a third of the one before.
    epochs : tuple of int
        Most epochs of each phase; every phase starts from the best weights so far.
    patience : int
        Epochs without a better validation score after which a phase ends; the count goes on
        across phases.
    core_decay, space_decay, channel_decay : float
        AdamW weight decay of the convolutions and their normalisation, of the row and column
        weights, and of the channel weights.
    initial_scale : float
        Standard deviation of the readout's initial weights.
    momentum : float
        Share of a batch in batch normalisation's running statistics.
    threads : int
        CPU threads per condition. Sums are rounded differently with another number, so it is part
        of what a result is identified by.
    minimodel : MinimodelSettings
        Where the minimodels differ.
    """

    models: Annotated[
        tuple[Literal["cnn_fullmodel", "cnn_minimodel", "cnn_vit"], ...], DISTINCT
    ] = ("cnn_fullmodel",)
    blocks: Annotated[Literal["all"] | tuple[int, ...] | None, DISTINCT] = None
    backbones: Annotated[tuple[str, ...] | None, DISTINCT] = None
    kernels: tuple[Odd, Odd] = (25, 9)
    channels: tuple[Positive, Positive] = (16, 320)
    crop: tuple[Annotated[int, Field(ge=0)], Positive] | None = None
    input_size: tuple[Positive, Positive] | None = None
    batch_size: Annotated[int, Field(ge=2)] = 100
    learning_rate: PositiveFloat = 1e-3
    epochs: tuple[Annotated[int, Field(ge=0)], ...] = (100, 30, 30, 30)
    patience: Positive = 5
    core_decay: NonNegative = 0.1
    space_decay: NonNegative = 1.0
    channel_decay: NonNegative = 0.1
    initial_scale: PositiveFloat = 0.01
    momentum: Annotated[float, Field(gt=0, le=1)] = 0.9
    threads: Positive = 1
    minimodel: MinimodelSettings = Field(default_factory=MinimodelSettings)

    @model_validator(mode="after")
    def _first_layer_is_trained(self) -> Self:
        if MINIMODEL in self.models and FULLMODEL not in self.models:
            raise ValueError(
                'the minimodels share the trained fullmodel\'s first layer: add "cnn_fullmodel" to '
                "models"
            )
        return self

    @property
    def learning_rates(self) -> tuple[float, ...]:
        """One per phase."""
        return tuple(self.learning_rate / 3**phase for phase in range(len(self.epochs)))


def pooled_size(input_size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of the feature map.

    Raises
    ------
    UserError
        Images too small to be pooled.
    """
    rows, columns = input_size
    if rows < 2 or columns < 2:
        raise UserError(
            f"baseline.input_size = [{rows}, {columns}]: the CNN pools 2 x 2 pixels, choose at "
            "least [2, 2]"
        )
    return rows // 2, columns // 2
