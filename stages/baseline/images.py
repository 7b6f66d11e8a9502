"""Grey images for CNNs: cropped, z-scored by the mean and deviation of the whole stack."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cache import UserError
from stages.stimuli.preprocessing import as_batch, resize, resolve_crop
from stages.stimuli.stimuli import READ_BATCH, Stimuli

#: Images per pass of a CNN where nothing is trained.
PREDICT_BATCH = 100


@dataclass(frozen=True, kw_only=True)
class GreyPreprocessing:
    """Crop, resize and z-score of raw images, by numbers that are known.

    Parameters
    ----------
    crop : pair of int
        [first, last) in raw columns.
    size : pair of int
        Rows and columns of the result.
    mean, std : float
        Of the images that the network was trained on.
    """

    crop: tuple[int, int]
    size: tuple[int, int]
    mean: float
    std: float

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Raw images (n_images, row, column) as (n_images, 1, row, column); gradients flow.

        Raises
        ------
        UserError
            Images without the columns of the crop.
        """
        first, last = resolve_crop(self.crop, (images.shape[1], images.shape[2]))
        pixels = images.to(torch.float32)[:, None, :, first:last]
        return (resize(pixels, self.size) - self.mean) / self.std


@dataclass(frozen=True, kw_only=True)
class GreyImages:
    """A stack of images in memory, in their stored dtype.

    Parameters
    ----------
    ids : array of shape (n_images,)
        Their image ids, increasing.
    pixels : array of shape (n_images, row, column)
        Cropped.
    size : pair of int
        Rows and columns that batches are resized to.
    mean, std : float
        Of all pixels of the stack after resizing.
    crop : pair of int
        Raw columns that were taken.
    """

    ids: NDArray[np.int64]
    pixels: NDArray[np.generic]
    size: tuple[int, int]
    mean: float
    std: float
    crop: tuple[int, int]

    @property
    def preprocessing(self) -> GreyPreprocessing:
        """What is done to other images, as to these."""
        return GreyPreprocessing(crop=self.crop, size=self.size, mean=self.mean, std=self.std)

    def batch(self, ids: NDArray[np.int64], *, device: str = "cpu") -> torch.Tensor:
        """Images as the network sees them, tensor of shape (n, 1, row, column), float32."""
        rows = np.searchsorted(self.ids, ids)
        return (_resized(self.pixels[rows], self.size, device) - self.mean) / self.std


def grey_images(
    stimuli: Stimuli, *, crop: tuple[int, int], size: tuple[int, int] | None = None
) -> GreyImages:
    """Read, crop and measure a set of images.

    Parameters
    ----------
    stimuli : Stimuli
        The stack: mean and deviation are taken over all of it.
    crop : pair of int
        [first, last) in raw columns.
    size : pair of int, optional
        Rows and columns to resize to (bilinear, no antialias); those of the crop by default.

    Raises
    ------
    UserError
        Images that do not differ from one another.
    """
    first, last = crop
    pixels = np.concatenate([images[:, :, first:last] for _, images in stimuli.batches()])
    to = (pixels.shape[1], pixels.shape[2]) if size is None else size
    mean, square = 0.0, 0.0
    for start in range(0, len(pixels), READ_BATCH):
        part = _resized(pixels[start : start + READ_BATCH], to, "cpu").double()
        share = len(part) / len(pixels)
        mean += share * part.mean().item()
        square += share * part.square().mean().item()
    variance = square - mean**2
    if variance <= 1e-12 * square:
        raise UserError(f"{stimuli.source}: all pixels have the same value; check the images")
    return GreyImages(
        ids=stimuli.ids, pixels=pixels, size=to, mean=mean, std=variance**0.5, crop=crop
    )


def _resized(pixels: NDArray[np.generic], size: tuple[int, int], device: str) -> torch.Tensor:
    return resize(as_batch(pixels, device=device), size)
