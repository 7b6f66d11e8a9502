"""Arrays kept beside the cache that they were computed from.

A file is named by everything that its arrays depend on, so none is ever out of date; one that is
damaged is as good as none.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cache import UserError, atomic_write, content_key, is_url
from stages.recordings.readers.npy_archive import open_archive

if TYPE_CHECKING:
    from cache import FeatureCache


def tokens_identity(cache: FeatureCache, ids: NDArray[np.int64]) -> dict[str, str]:
    """Everything that a cache's tokens of some images depend on."""
    images = cache.images_digest(ids)
    return {"tokens": cache.key} | ({} if images is None else {"images": images})


def kept_beside(
    cache: FeatureCache,
    name: str,
    content: Mapping[str, Any],
    make: Callable[[], Mapping[str, NDArray[Any]]],
    *,
    keep: bool,
) -> Mapping[str, NDArray[Any]]:
    """Arrays by name, as they were kept; made where they were not, or the file is damaged.

    Nothing is kept beside a cache that is behind a URL.

    Parameters
    ----------
    name : str
        What the arrays are, such as "planted".
    content : mapping
        Everything that they depend on.
    keep : bool
        Whether new ones may be written.
    """
    if is_url(cache.path):
        return make()
    path = Path(cache.path).parent / f"{name}-{content_key(content)[:16]}.npz"
    with suppress(UserError):
        kept = open_archive(path)
        return {member.removesuffix(".npy"): kept.array(member) for member in kept.members()}
    arrays = make()
    if keep:
        file = io.BytesIO()
        np.savez(file, allow_pickle=False, **arrays)
        # The cache may lie in somebody else's folder.
        with suppress(PermissionError):
            atomic_write(path, file.getvalue())
    return arrays
