"""Statistics of tokens on disk, for fits of other neurons on the same images."""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cache import content_key
from stages.readouts.als.pca import Components
from stages.readouts.settings import ALSSettings

#: Raised whenever the same tokens give other statistics than before.
STATISTICS_VERSION = 2

_TENSORS = ("mean", "scale", "basis", "variances")


@dataclass(frozen=True)
class StatisticsFolder:
    """Where statistics are kept, and which tokens of which trials they are of.

    Parameters
    ----------
    folder : path
        Made when something is stored.
    tokens_key : str
        Identity of the training tokens in their order.
    """

    folder: Path
    tokens_key: str

    def path(self, settings: ALSSettings) -> Path:
        """The file of these tokens' statistics under some settings."""
        content = {
            "tokens": self.tokens_key,
            "variance_kept": settings.variance_kept,
            "max_components": settings.max_components,
            "basis_images": settings.basis_images,
            "scale_limit": settings.scale_limit,
            "version": STATISTICS_VERSION,
        }
        key = content_key(content)
        return self.folder / f"{key[:32]}.npz"

    def load(
        self, settings: ALSSettings, device: torch.device
    ) -> tuple[Components, torch.Tensor] | None:
        """Components and summed products, or None where there are none or their file is damaged."""
        try:
            with np.load(self.path(settings), allow_pickle=False) as stored:
                values = {name: torch.from_numpy(stored[name]).to(device) for name in stored.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            return None
        if set(values) != {*_TENSORS, "products"}:
            return None
        return Components(*(values[name] for name in _TENSORS)), values["products"]

    def save(self, settings: ALSSettings, components: Components, products: torch.Tensor) -> None:
        """Store them; whole or not at all."""
        path = self.path(settings)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.stem}.{os.getpid()}.new")
        arrays = {name: getattr(components, name).cpu().numpy() for name in _TENSORS}
        with temporary.open("wb") as file:
            np.savez(file, products=products.cpu().numpy(), **arrays)
        temporary.replace(path)
