"""Preparation of raw grey images for a network: resize, crop, range and normalisation."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cache import UserError
from stages.stimuli.uniform import resized_columns, uniform

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Resize, crop, min-max per image, three equal channels, the checkpoint's mean and std.

    Parameters
    ----------
    crop : pair of int
        [first, last) in raw columns.
    input_size : pair of int
        Rows and columns of the result.
    mean, std : triple of float
        Normalisation constants per channel.
    """

    crop: tuple[int, int]
    input_size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def settings(self) -> dict[str, Any]:
        """What of this changes a token, readably."""
        return {
            **{name: list(value) for name, value in asdict(self).items()},
            "resize": "bilinear, no antialias",
            "range": "per-image min-max",
        }

    def __call__(
        self, images: NDArray[np.generic], *, device: torch.device | str = "cpu"
    ) -> torch.Tensor:
        """Prepare a batch.

        The published order is resize, then crop. It is kept where the crop falls on whole columns
        of the resized image (0..132 of 264 does: 64 x 256, then 0..128); elsewhere the cropped
        columns are resized directly. The two differ at most in the columns at the crop's edges.

        A uniform image, which min-max cannot stretch, is mid-grey: 0.5 before mean and std. See
        `stages.stimuli.uniform.uniform` for which images are.

        Parameters
        ----------
        images : array of shape (n_images, row, column)
            Raw images of any real dtype, the stored one: their rounding is told by it.

        Returns
        -------
        tensor of shape (n_images, 3, input row, input column), float32
        """
        import torch

        flat = uniform(images, crop=self.crop, size=self.input_size)
        return self.prepared(as_batch(images, device=device), torch.from_numpy(flat))

    def prepared(self, raw: torch.Tensor, flat: torch.Tensor) -> torch.Tensor:
        """The same of float32 pixels (n_images, 1, row, column), through which gradients flow.

        `flat`, of shape (n_images,), says which images are uniform.
        """
        import torch

        rows, columns = self.input_size
        first, last = self.crop
        whole = resized_columns(raw.shape[-1], self.crop, columns)
        if whole is not None:
            width, offset = whole
            grey = resize(raw, (rows, width))[..., offset : offset + columns]
        else:
            grey = resize(raw[..., first:last], (rows, columns))
        low = grey.amin(dim=(1, 2, 3), keepdim=True)
        span = grey.amax(dim=(1, 2, 3), keepdim=True) - low
        flat = flat.to(span.device)[:, None, None, None] | (span <= 0)
        grey = torch.where(flat, 0.5, (grey - low) / torch.where(flat, 1.0, span))
        mean = torch.tensor(self.mean, device=grey.device)[:, None, None]
        std = torch.tensor(self.std, device=grey.device)[:, None, None]
        return (grey - mean) / std


def as_batch(images: NDArray[np.generic], *, device: torch.device | str = "cpu") -> torch.Tensor:
    """Grey images (n_images, row, column) as a float32 tensor (n_images, 1, row, column)."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(images, dtype=np.float32)).to(device)[:, None]


def resize(images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resize a batch (n_images, channel, row, column) to so many rows and columns.

    Bilinear, without antialias. A batch that has the size already is returned as it is.
    """
    from torch.nn.functional import interpolate

    if tuple(images.shape[-2:]) == size:
        return images
    return interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=False)


def resolve_crop(crop: tuple[int, int] | None, image_shape: tuple[int, int]) -> tuple[int, int]:
    """The crop to use for images of a shape; all columns where none is asked for.

    Raises
    ------
    UserError
        An empty crop or one beyond the image.
    """
    columns = image_shape[1]
    first, last = crop if crop is not None else (0, columns)
    if not 0 <= first < last <= columns:
        raise UserError(
            f"stimuli.crop = [{first}, {last}]: the images have {columns} columns, "
            f"choose 0 <= first < last <= {columns}"
        )
    return first, last
