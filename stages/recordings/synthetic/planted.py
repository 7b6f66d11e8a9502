"""Neurons planted as readouts of tokens: known readouts, noisy responses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cache import UserError, as_array
from stages.recordings.recording import Recording, check_recording
from stages.recordings.synthetic_settings import FEV_SPREAD, SyntheticSettings

#: Standard deviation over images of what a planted readout feeds into ELU (its mean is 0): rates
#: range from near 0 to about 3, and responses with FEV 0.5 have a standard deviation near 1.
DRIVE_STD = 0.85
#: Stream of random numbers of the neurons; the images have another of the same seed.
NEURON_STREAM = 1

#: Smallest and largest standard deviation of a neuron's Gaussian rows and columns, in patches.
WIDTHS = (0.6, 1.2)


@dataclass(frozen=True, kw_only=True)
class PlantedReadouts:
    """The readouts that made the responses.

    Parameters
    ----------
    row_weights, column_weights : array of shape (n_neurons, n_rows) or (n_neurons, n_columns)
        Not negative.
    channel_weights : array of shape (n_neurons, n_channels)
    bias : array of shape (n_neurons,)
    """

    row_weights: NDArray[np.float64]
    column_weights: NDArray[np.float64]
    channel_weights: NDArray[np.float64]
    bias: NDArray[np.float64]


def synthetic_recording(
    settings: SyntheticSettings, tokens: NDArray[np.floating], *, name: str
) -> tuple[Recording, PlantedReadouts]:
    """Plant neurons as readouts of the given tokens and record their noisy responses.

    A neuron's rows and columns are Gaussian bumps around a random place; its channels mix the
    leading principal components of the tokens, each with the same variance. Its rate is
    ``ELU(drive) + 1``. The noise is gamma distributed with a variance proportional to the rate,
    chosen so that the neuron has its fraction of explainable variance. It is drawn by inverting
    the distribution: tokens that differ by a rounding error give responses that do so too.

    A neuron's readout and noise come from the seed and its number, not from `n_neurons`. The
    trials show every image in the order of its id; the last `n_validation` of them are validation.

    Parameters
    ----------
    tokens : array of shape (n_images, row, column, channel)
        Patch tokens of `settings.block` for the images of `synthetic_images`.

    Raises
    ------
    UserError
        More components than the tokens have channels.
    ValueError
        Tokens that do not belong to the images.
    """
    tokens = as_array(tokens, "tokens", ("image", "row", "column", "channel"))
    if len(tokens) != settings.n_images:
        raise ValueError(
            f"tokens have shape {tokens.shape}, "
            f"expected ({settings.n_images}, row, column, channel)"
        )
    if settings.n_components > tokens.shape[3]:
        raise UserError(
            f"recording {name}: n_components = {settings.n_components}, but the backbone's tokens "
            f"have {tokens.shape[3]} channels: choose at most {tokens.shape[3]}"
        )
    directions = _leading_directions(tokens, settings.n_components)
    components = tokens @ directions
    planted = (_plant(settings, components, number) for number in range(settings.n_neurons))
    rows, columns, mixtures, biases, single, repeats = zip(*planted, strict=True)
    readouts = PlantedReadouts(
        row_weights=np.array(rows),
        column_weights=np.array(columns),
        channel_weights=np.array([directions @ mixture for mixture in mixtures]),
        bias=np.array(biases),
    )
    responses = (np.stack(each, axis=-1).astype(np.float32) for each in (single, repeats))
    return recording_of(settings, *responses, name=name), readouts


def recording_of(
    settings: SyntheticSettings,
    single: NDArray[np.float32],
    test: NDArray[np.float32],
    *,
    name: str,
) -> Recording:
    """A recording of responses to the images in the order of their ids."""
    n_single = settings.n_single
    recording = Recording(
        name=name,
        neurons=np.arange(settings.n_neurons),
        image_ids=np.arange(n_single),
        responses=single,
        validation=np.arange(n_single) >= settings.n_training,
        test_image_ids=np.arange(n_single, settings.n_images),
        test_responses=test,
    )
    return check_recording(recording)


def _plant(
    settings: SyntheticSettings, components: NDArray[np.float64], number: int
) -> tuple[NDArray[np.float64], ...]:
    """Rows, columns, mixture and bias of one neuron, its single and its repeated responses."""
    rng = np.random.default_rng([settings.seed, NEURON_STREAM, number])
    width = rng.uniform(*WIDTHS)
    rows, columns = (_bump(n, width, rng) for n in components.shape[1:3])
    mixture = rng.standard_normal(settings.n_components)
    drive = np.einsum("iyxk,y,x,k->i", components, rows, columns, mixture)
    scale = DRIVE_STD / drive.std()
    bias = np.asarray(-drive.mean() * scale)
    rate = _rate(drive * scale + bias)

    single, repeated = noisy_responses(settings, rate, rng)
    return rows, columns, mixture * scale, bias, single, repeated


def noisy_responses(
    settings: SyntheticSettings, rate: NDArray[np.float64], rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Responses of one neuron of a rate of shape (n_images,): single ones, and repeats.

    Where the rate is 0, so are they. Arrays of shape (n_single,) and (n_test, n_repeats).
    """
    # A caller that plants nothing does not wait for scipy.
    from scipy.special import gammaincinv

    def drawn(rate: NDArray[np.float64], level: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(rate > 0, unit * gammaincinv(rate / unit, level), 0)

    fev = settings.fev + FEV_SPREAD * rng.uniform(-1, 1)
    noise_variance = rate.var() * (1 - fev) / fev
    unit = noise_variance / rate.mean()
    single, repeated = rate[: settings.n_single], rate[settings.n_single :, None]
    return (
        drawn(single, rng.random(len(single))),
        drawn(repeated, rng.random((len(repeated), settings.n_repeats))),
    )


def _bump(n: int, width: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """A Gaussian bump at a random place along n patches, array of shape (n,)."""
    centre = rng.uniform(-0.5, n - 0.5)
    return np.asarray(np.exp(-0.5 * ((np.arange(n) - centre) / width) ** 2))


def _rate(drive: NDArray[np.float64]) -> NDArray[np.float64]:
    """ELU(drive) + 1, exactly positive also where ELU is close to -1."""
    return np.where(drive > 0, 1 + drive, np.exp(np.minimum(drive, 0)))


def _leading_directions(tokens: NDArray[np.floating], n_components: int) -> NDArray[np.float64]:
    """Principal components of the channels, scaled to unit variance of the tokens along each.

    Array of shape (n_channels, n_components).
    """
    flat = tokens.reshape(-1, tokens.shape[-1])
    variances, directions = np.linalg.eigh(np.cov(flat, rowvar=False, dtype=np.float64))
    leading = directions[:, ::-1][:, :n_components]
    # Eigenvectors have no sign of their own, and libraries choose differently.
    largest = np.take_along_axis(leading, abs(leading).argmax(axis=0)[None], axis=0)
    return np.asarray(leading * np.sign(largest) / np.sqrt(variances[::-1][:n_components]))
