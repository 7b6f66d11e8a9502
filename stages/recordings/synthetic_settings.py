"""Settings of synthetic recordings."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from stages.settings import STRICT

#: A neuron's explainable variance lies within this of the one asked for.
FEV_SPREAD = 0.1


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Perturbation:
    """Blocks whose weights differ where the neurons are planted from those that are extracted.

    Parameters
    ----------
    blocks : tuple of int
        0-based.
    amount : float
        How far their weight matrices are moved: at 1 they are new random ones; in between, the
        correlation with the original ones is sqrt(1 - amount^2).
    """

    blocks: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)]
    amount: Annotated[float, Field(gt=0, le=1)]


def _rising(limits: tuple[float, float]) -> tuple[float, float]:
    if limits[0] > limits[1]:
        raise ValueError("the first limit must not exceed the second")
    return limits


#: Smallest and largest value of something.
_Limits = Annotated[tuple[PositiveFloat, PositiveFloat], AfterValidator(_rising)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GaborSettings:
    """Neurons that see pixels: simple and complex cells, each a Gabor filter at a random place.

    The defaults are like mouse V1 at the one pixel per degree that its recordings have at 64 x 128:
    receptive fields of 5 to 9 degrees (half-width), 0.03 to 0.12 cycles per degree, and more simple
    cells than complex ones (Niell and Stryker 2008).

    Parameters
    ----------
    size : tuple of float
        Smallest and largest standard deviation of the round envelope, pixels of the raw image.
    cycles : tuple of float
        Fewest and most cycles of the grating within one standard deviation.
    complex : float
        Fraction of the neurons that are complex cells: they respond to every phase alike.
    """

    size: _Limits = (4.0, 8.0)
    cycles: _Limits = (0.25, 0.5)
    complex: Annotated[float, Field(ge=0, le=1)] = 0.25


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SyntheticSettings:
    """What a synthetic recording holds; the defaults are those of the demo.

    Parameters
    ----------
    n_training, n_validation, n_test : int
        Number of images; training and validation images are shown once.
    n_repeats : int
        How often each test image is shown.
    n_neurons : int
        Number of planted neurons.
    image_shape : tuple of int
        Rows and columns of an image, pixels.
    block : int
        The block (0-based) whose patch tokens the neurons read.
    n_components : int
        Leading principal components of the tokens' channels that a neuron mixes.
    fev : float
        Mean fraction of explainable variance of the neurons.
    seed : int
        Seed of images, readouts and noise.
    perturb : Perturbation, optional
        Plant the neurons in another backbone than the one that is extracted: what they read can
        then be recovered by fine-tuning alone.
    gabor : GaborSettings, optional
        Plant the neurons in the images' pixels, not in tokens; `block`, `n_components` and
        `perturb` are then of no account.
    """

    n_training: PositiveInt = 2000
    n_validation: Annotated[int, Field(ge=2)] = 200
    n_test: Annotated[int, Field(ge=2)] = 100
    n_repeats: Annotated[int, Field(ge=2)] = 10
    n_neurons: PositiveInt = 200
    image_shape: tuple[Annotated[int, Field(ge=8)], Annotated[int, Field(ge=8)]] = (64, 128)
    block: NonNegativeInt = 4
    n_components: PositiveInt = 8
    fev: Annotated[float, Field(gt=FEV_SPREAD, lt=1 - FEV_SPREAD)] = 0.5
    seed: NonNegativeInt = 0
    perturb: Perturbation | None = None
    gabor: GaborSettings | None = None

    @property
    def n_single(self) -> int:
        """Images shown once: training first, then validation."""
        return self.n_training + self.n_validation

    @property
    def n_images(self) -> int:
        """All images, those of the test last; image ids are 0..n_images-1 in this order."""
        return self.n_single + self.n_test
