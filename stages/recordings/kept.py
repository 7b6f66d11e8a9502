"""Arrays kept beside the cache that they were computed from.

A file is named by everything that its arrays depend on, so none is ever out of date; one that is
damaged is as good as none.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cache import atomic_write, content_key, is_url

if TYPE_CHECKING:
    from cache import FeatureCache


def path_beside(cache: FeatureCache, name: str, content: Mapping[str, Any]) -> Path | None:
    """Where arrays are kept; None where the cache is behind a URL.

    Parameters
    ----------
    name : str
        What they are, such as "planted".
    content : mapping
        Everything that they depend on.
    """
    if is_url(cache.path):
        return None
    return Path(cache.path).parent / f"{name}-{content_key(content)[:16]}.npz"


def kept_arrays(path: Path | None) -> dict[str, NDArray[Any]] | None:
    """Kept arrays by name; None where there are none, or the file is damaged."""
    if path is None:
        return None
    try:
        with np.load(path, allow_pickle=False) as kept:
            return {name: kept[name] for name in kept.files}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


def keep_arrays(path: Path | None, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Keep arrays, where the folder may be written to: a cache may lie in somebody else's."""
    if path is None:
        return
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **arrays)
    with suppress(PermissionError):
        atomic_write(path, content.getvalue())
