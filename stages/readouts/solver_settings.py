"""Settings of the solvers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from stages.settings import STRICT, NonNegative, Positive, PositiveFloat


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AdamWSettings:
    """The joint gradient-descent protocol of the published numbers.

    Parameters
    ----------
    learning_rate : float
        Start of the schedule.
    batch_size : int
        Images per step.
    space_decay, channel_decay : float
        AdamW weight decay of the row and column weights, and of the channel weights.
    penalty : float
        Factor of the summed squared weights in the loss.
    clip_norm : float, optional
        Bound of the gradient norm over all neurons' parameters together; none where absent.
    patience : int
        Epochs without a better mean validation score before the learning rate falls.
    factor : float
        What the learning rate is multiplied by then.
    minimum_learning_rate : float
        Training stops when the learning rate reaches it.
    max_epochs : int
        Training stops here at the latest.
    initial_scale : float
        Standard deviation of the initial weights.
    """

    learning_rate: PositiveFloat = 1e-3
    batch_size: Positive = 64
    space_decay: NonNegative = 1.0
    channel_decay: NonNegative = 0.1
    penalty: NonNegative = 0.1
    clip_norm: PositiveFloat | None = 1.0
    patience: Positive = 5
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    minimum_learning_rate: NonNegative = 1e-5
    max_epochs: Annotated[int, Field(ge=0)] = 200
    initial_scale: PositiveFloat = 0.01


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ALSSettings:
    """Factorised least squares from sufficient statistics, carried over to ELU + 1.

    Parameters
    ----------
    penalties : sequence of float
        Ridge penalties to choose from, in units of the tokens' variance summed over channels. A
        neuron may also keep to its mean.
    selection : str
        "shrunk" gives each neuron the penalty that its held-out trials favour, shrunk towards the
        population's choice as far as one half of these trials finds that the other half's
        choices serve it; "shared" gives all the same; "own" trusts each neuron's trials alone.
    variance_kept : float
        Principal components of the channels are kept until they hold this fraction of the variance.
    max_components : int
        But no more than these.
    basis_images : int
        The components are estimated from at most this many training trials, evenly spread.
    scale_limit : float
        Channels whose standard deviation is more than this many times the median channel's are
        scaled down to it first: a few of a ViT's channels would take all components otherwise.
    tolerance : float
        A neuron is done when new rows and columns lower its objective by less than this fraction
        of its gain.
    max_rounds : int
        Rounds of alternation at most.
    refit : bool
        Once penalties are chosen, fit again to training and validation trials together. Validation
        scores, and what fine-tuning starts from, are those of the fit to the training trials alone.
    output : str
        "elu" ends in the readout that all solvers share. "linear" ends in the least-squares
        predictor itself, clipped at zero where no response is negative: for responses that are,
        such as fluorescence or z-scores, and for comparisons with plain linear models. It is not
        divided among workers, and fine-tuning cannot start from it.
    """

    penalties: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (
        1e-1,
        3e-2,
        1e-2,
        3e-3,
        1e-3,
        1e-4,
    )
    selection: Literal["shrunk", "shared", "own"] = "shrunk"
    variance_kept: Annotated[float, Field(gt=0, le=1)] = 0.99
    max_components: Positive = 96
    basis_images: Positive = 2048
    scale_limit: PositiveFloat = 5.0
    tolerance: PositiveFloat = 1e-3
    max_rounds: Positive = 20
    refit: bool = True
    output: Literal["elu", "linear"] = "elu"
