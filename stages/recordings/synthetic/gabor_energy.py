"""Neurons planted in the pixels of images: energies of Gabor filters, whatever the backbone is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.recordings.recording import Recording
from stages.recordings.synthetic.planted import NEURON_STREAM, noisy_responses, recording_of
from stages.recordings.synthetic_settings import GaborSettings, SyntheticSettings

#: Images whose pixels are held as float64 at a time.
_TOGETHER = 256


@dataclass(frozen=True, kw_only=True)
class Gabor:
    """The filters of one neuron: a grating under a round Gaussian envelope, in two phases.

    Parameters
    ----------
    row, column : float
        Its centre, pixels of the raw image; 0 is the centre of the first pixel.
    size : float
        Standard deviation of the envelope, pixels.
    wavelength : float
        Of the grating, pixels.
    angle : float
        Direction along which the grating varies, radians from that of the columns.
    phase : float, optional
        Of a simple cell, radians; a complex cell has none.
    """

    row: float
    column: float
    size: float
    wavelength: float
    angle: float
    phase: float | None

    def filters(self, shape: tuple[int, int]) -> NDArray[np.float64]:
        """Its even and odd filter, array of shape (2, row, column).

        Neither responds to a uniform image; both have unit norm.
        """
        rows, columns = (
            np.arange(n) - centre for n, centre in zip(shape, (self.row, self.column), strict=True)
        )
        y, x = rows[:, None], columns[None, :]
        envelope = np.exp(-(x**2 + y**2) / (2 * self.size**2))
        along = x * np.cos(self.angle) + y * np.sin(self.angle)
        phase = 2 * np.pi * along / self.wavelength
        pair = np.stack([envelope * np.cos(phase), envelope * np.sin(phase)])
        pair -= envelope * (pair.sum(axis=(1, 2)) / envelope.sum())[:, None, None]
        return np.asarray(pair / np.linalg.norm(pair, axis=(1, 2), keepdims=True))

    def energy(self, responses: NDArray[np.float64]) -> NDArray[np.float64]:
        """Its energy, array of shape (n_images,), from responses of its filters (n_images, 2)."""
        even, odd = responses.T
        if self.phase is None:
            return np.asarray(even**2 + odd**2)
        response = even * np.cos(self.phase) + odd * np.sin(self.phase)
        return np.asarray(np.maximum(response, 0) ** 2)


def energy_recording(
    settings: SyntheticSettings,
    gabor: GaborSettings,
    images: NDArray[np.uint8],
    *,
    name: str,
) -> tuple[Recording, list[Gabor]]:
    """Noisy responses of neurons whose rate is the energy of Gabor filters, over its mean.

    The energy of a complex cell is the sum of the squared responses of an even and an odd filter
    (Adelson and Bergen 1985); that of a simple cell is the squared response of one filter where it
    is positive, so that four of them make a complex one (Heeger 1992). Filters and noise of a
    neuron come from the seed and its number alone, and no backbone has a part in them. Noise and
    trials are those of `synthetic_recording`.

    Parameters
    ----------
    images : array of shape (n_images, row, column)
        Those of `synthetic_images`.
    """
    rngs = [
        np.random.default_rng([settings.seed, NEURON_STREAM, number])
        for number in range(settings.n_neurons)
    ]
    neurons = [_drawn(gabor, settings.image_shape, rng) for rng in rngs]
    energies = _energies(neurons, images)
    planted = [
        noisy_responses(settings, energy / energy.mean(), rng)
        for energy, rng in zip(energies, rngs, strict=True)
    ]
    single, repeats = (
        np.stack(each, axis=-1).astype(np.float32) for each in zip(*planted, strict=True)
    )
    return recording_of(settings, single, repeats, name=name), neurons


def _drawn(gabor: GaborSettings, shape: tuple[int, int], rng: np.random.Generator) -> Gabor:
    """A neuron at a random place; size and cycles are uniform in their logarithms."""
    row, column = (rng.uniform(-0.5, n - 0.5) for n in shape)
    size, cycles = (np.exp(rng.uniform(*np.log(each))) for each in (gabor.size, gabor.cycles))
    angle, phase = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi)
    return Gabor(
        row=row,
        column=column,
        size=size,
        wavelength=size / cycles,
        angle=angle,
        phase=None if rng.random() < gabor.complex else phase,
    )


def _energies(neurons: list[Gabor], images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Energies, array of shape (n_neurons, n_images)."""
    filters = np.stack([neuron.filters(images.shape[1:]) for neuron in neurons])
    flat = filters.reshape(2 * len(neurons), -1).T
    parts = []
    for first in range(0, len(images), _TOGETHER):
        part = images[first : first + _TOGETHER]
        parts.append(part.reshape(len(part), -1) / 255 @ flat)
    responses = np.concatenate(parts).reshape(len(images), len(neurons), 2)
    return np.stack([neuron.energy(responses[:, k]) for k, neuron in enumerate(neurons)])
