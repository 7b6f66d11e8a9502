"""Rectified Gabor responses on a patch grid: features that carry signal, without a backbone."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

#: Standard deviation of the envelope and wavelength of the grating, in pixels of 64 x 128.
SCALES = ((1.5, 4.0), (3.0, 8.0), (6.0, 16.0))
ORIENTATIONS, RADIUS, POOL, PATCH = 4, 18, 4, 16


def gabor_features(images: NDArray[np.generic]) -> NDArray[np.float16]:
    """Responses at three scales, four orientations and two phases, pooled to 4 pixels.

    Parameters
    ----------
    images : array of shape (n_images, row, column)

    Returns
    -------
    array of shape (n_images, 4, 8, 384)
        The 4 x 4 pooled pixels of a patch are folded into its channels.
    """
    pixels = torch.from_numpy(np.asarray(images, dtype=np.float32))[:, None]
    pixels = functional.interpolate(pixels, size=(64, 128), mode="bilinear")
    pixels = (pixels - pixels.mean()) / pixels.std()
    filters = torch.from_numpy(_filters())
    height, width = 64 + 2 * RADIUS, 128 + 2 * RADIUS
    spectrum = torch.fft.rfft2(filters, s=(height, width))
    side = PATCH // POOL
    parts = []
    for part in pixels.split(64):
        padded = functional.pad(part, (RADIUS,) * 4, mode="reflect")
        responses = torch.fft.irfft2(torch.fft.rfft2(padded) * spectrum, s=(height, width))
        pooled = functional.avg_pool2d(responses[..., 2 * RADIUS :, 2 * RADIUS :].relu(), POOL)
        folded = pooled.unflatten(3, (-1, side)).unflatten(2, (-1, side))
        parts.append(folded.permute(0, 2, 4, 1, 3, 5).flatten(3).half())
    return torch.cat(parts).numpy()


def _filters() -> NDArray[np.float32]:
    """Unit-norm filters without response to a constant, (filter, row, column)."""
    y, x = np.mgrid[-RADIUS : RADIUS + 1, -RADIUS : RADIUS + 1]
    filters = []
    for deviation, wavelength in SCALES:
        envelope = np.exp(-(x**2 + y**2) / (2 * deviation**2))
        for angle in np.arange(ORIENTATIONS) * np.pi / ORIENTATIONS:
            along = x * np.cos(angle) + y * np.sin(angle)
            for phase in (0, np.pi / 2):
                gabor = envelope * np.cos(2 * np.pi * along / wavelength + phase)
                gabor -= envelope * gabor.sum() / envelope.sum()
                filters.append(gabor / np.sqrt(np.square(gabor).sum()))
    return np.asarray(filters, dtype=np.float32)
