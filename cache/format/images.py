"""The images of a cache: a hash of each, and the sets that it held one after another."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Array of one SHA-256 per image, and the name in `contents` that says that a store has it.
HASHES = "image_sha256"
#: Bytes of each.
HASH_BYTES = 32
#: Attribute of a root with hashes: the sets of images that the store held, each the one before and
#: more images after those: {"count": ..., "sha256": `digest_of_images`}.
SETS = "image_sets"
#: Images of the largest cache: their ids have 128 MiB, their hashes 512.
IMAGES_LIMIT = 2**24
#: Attribute of a root that is not finished: images at the beginning that a finished store gave.
HELD = "images_held"

_ID, _HASH = np.dtype("<i8"), np.dtype(np.uint8)


def image_sha256(image: NDArray[Any]) -> bytes:
    """The hash of one raw image, array of shape (row, column): of its shape, dtype and pixels."""
    little = np.ascontiguousarray(image, dtype=image.dtype.newbyteorder("<"))
    rows, columns = little.shape
    head = f"{rows} {columns} {little.dtype.str}\n".encode("ascii")
    return hashlib.sha256(head + little.tobytes()).digest()


def digest_of_images(ids: NDArray[np.int64], hashes: NDArray[np.uint8]) -> str:
    """The SHA-256 over ids, array of shape (n,), and then hashes, array of shape (n, 32)."""
    return hashlib.sha256(ids.astype(_ID).tobytes() + hashes.astype(_HASH).tobytes()).hexdigest()


def is_hashed(attributes: Mapping[str, Any]) -> bool:
    """Whether a store of these attributes tells its images apart."""
    return attributes["contents"].get(HASHES) is True


def continues(attributes: Mapping[str, Any], earlier: Mapping[str, Any]) -> bool:
    """Whether a root is that of the same store, which may have got more images since."""
    sets = earlier.get(SETS, [])
    return bool(
        attributes["key"] == earlier["key"] and attributes.get(SETS, [])[: len(sets)] == sets
    )


def sets_problem(attributes: Mapping[str, Any]) -> str | None:
    """What is wrong with a root's record of images, or None."""
    sets, hashed = attributes.get(SETS), attributes["contents"].get(HASHES, False)
    if not isinstance(hashed, bool) or hashed != (sets is not None):
        return "says of hashes of images what no cache says"
    if sets is None:
        return None
    counts = [each.get("count") for each in sets] if _are_mappings(sets) else []
    if (
        not counts
        or not all(type(n) is int and n > 0 for n in counts)
        or sorted(set(counts)) != counts
    ):
        return "has sets of images that no cache has"
    return None


def _are_mappings(values: object) -> bool:
    return isinstance(values, list) and all(isinstance(value, dict) for value in values)
