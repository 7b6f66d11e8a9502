"""Settings of the feature cache."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic.dataclasses import dataclass

from stages.settings import STRICT, InputPath, OutputPath


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CacheSettings:
    """Where the tokens are stored and in what dtype.

    Parameters
    ----------
    path : str, optional
        A path or a URL; `features.zarr` in the run's folder by default.
    local_copy : path, optional
        Folder for copies of what is read from a URL, so that a second run needs no network. A copy
        is not compared with its source again: delete it where the source has changed.
    dtype : str
        "float16" or "float32".
    license : str, optional
        Licence of the weights and the images, in your words: the cache's provenance keeps it, and
        the card of a published one shows it.
    """

    path: Annotated[str | None, InputPath()] = None
    local_copy: Annotated[OutputPath | None, InputPath()] = None
    dtype: Literal["float16", "float32"] = "float16"
    license: str | None = None
