"""The identity of a backbone's weights; needs neither torch nor timm."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.backbones.random_weights import DEFAULT_GAIN, RECIPES
from stages.backbones.settings import BackboneSettings


@dataclass(frozen=True, kw_only=True)
class WeightsIdentity:
    """The source of a backbone's weights and what identifies them.

    Parameters
    ----------
    source : str
        "hub", "file" or "random".
    identity : mapping
        Goes into the cache key: the file's sha256 wherever it came from, or the random recipe.
    adapted : tuple of str
        What of the file was chosen, left out or resampled; the file and the settings decide it.
    """

    source: str
    identity: Mapping[str, Any]
    adapted: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The results' column `weights`: "hub", "random", or the file's sha256."""
        return str(self.identity["sha256"]) if self.source == "file" else self.source


def random_identity(settings: BackboneSettings, *, recipe: int) -> WeightsIdentity:
    """The identity of weights drawn by a recipe from a seed with a gain."""
    gain = DEFAULT_GAIN if settings.gain is None else settings.gain
    drawn = {"kind": "random", "recipe": recipe, "seed": settings.seed, "gain": gain}
    return WeightsIdentity(source="random", identity=drawn)


def file_identity(path: Path, *, source: str = "file") -> WeightsIdentity:
    """The identity of a weights file: its content, not its name."""
    with path.open("rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
    return WeightsIdentity(source=source, identity={"kind": "file", "sha256": content})


def declared_identity(settings: BackboneSettings, made: Mapping[str, Any]) -> Mapping[str, Any]:
    """As much of the identity as can be told without a model or a hub.

    Which recipe draws random weights, the model decides: any that is in use agrees with weights
    that were `made`. No sha256 is told where no file is at hand.
    """
    if settings.weights == "random":
        recipe = next((each for each in RECIPES if each == made.get("recipe")), RECIPES[-1])
        return random_identity(settings, recipe=recipe).identity
    if settings.weights != "hub" and Path(settings.weights).is_file():
        return file_identity(Path(settings.weights)).identity
    return {"kind": "file"}
