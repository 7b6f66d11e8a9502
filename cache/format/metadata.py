"""The zarr.json files of a store: written as bytes that follow from their content, and checked.

The root holds the sha256 of every other zarr.json and of itself, each array the checksum of every
chunk: whoever trusts the root can tell any changed byte of a finished store.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.errors import CacheError
from cache.format.arrays import StoredArray
from cache.format.identity import key_of
from cache.format.layout import DIMENSIONS, TOKEN_KINDS, Layout, TokenShape, token_path

FORMAT = "vitv1-feature-cache"
FORMAT_VERSION = 1

ROOT = "zarr.json"
CHUNK_CRCS = "chunk_crc32c"

_SELF = re.compile(rb'"self_sha256": "([0-9a-f]{64})"')
_REMEDY = "the store is damaged: vitv1 cache repair, or fetch it again"


def document_bytes(document: Mapping[str, Any]) -> bytes:
    """A zarr.json in the one serialisation that writers use."""
    text = json.dumps(document, sort_keys=True, indent=1, allow_nan=False)
    return f"{text}\n".encode("ascii")


def group_bytes(attributes: Mapping[str, Any] | None = None) -> bytes:
    """The zarr.json of a group."""
    return document_bytes(
        {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes or {})}
    )


def array_bytes(array: StoredArray, crcs: NDArray[np.uint32] | None = None) -> bytes:
    """The zarr.json of an array; `crcs`, one per chunk, belong to a finished store."""
    attributes = {} if crcs is None else {CHUNK_CRCS: encode_crcs(crcs)}
    return document_bytes(array.document(attributes))


def encode_crcs(crcs: NDArray[np.uint32]) -> str:
    """Checksums as base64 of little-endian uint32."""
    return base64.b64encode(crcs.astype("<u4").tobytes()).decode("ascii")


def root_bytes(attributes: Mapping[str, Any]) -> bytes:
    """The root's zarr.json with its own hash filled in.

    `self_sha256` is the sha256 of these bytes with the 64 digits left out.
    """
    blank = group_bytes({**attributes, "self_sha256": ""})
    digest = hashlib.sha256(blank).hexdigest()
    return group_bytes({**attributes, "self_sha256": digest})


def new_attributes(
    settings: Mapping[str, Any], provenance: Mapping[str, Any], contents: Mapping[str, Any]
) -> dict[str, Any]:
    """The root's attributes of a store that is begun."""
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "key": key_of(settings),
        "settings": dict(settings),
        "provenance": dict(provenance),
        "contents": dict(contents),
        "complete": False,
    }


def finished_attributes(
    attributes: Mapping[str, Any], documents: Mapping[str, bytes]
) -> dict[str, Any]:
    """A finished root's attributes.

    Parameters
    ----------
    attributes : mapping
        format, format_version, key, settings, provenance, contents.
    documents : mapping
        Every other zarr.json of the store, path to bytes.
    """
    hashes = {path: hashlib.sha256(content).hexdigest() for path, content in documents.items()}
    return {**attributes, "complete": True, "metadata_sha256": hashes}


def unfinished_attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The same attributes while shards are missing."""
    return {
        **{name: value for name, value in attributes.items() if name != "metadata_sha256"},
        "complete": False,
    }


def read_root(content: bytes, *, where: str) -> dict[str, Any]:
    """The attributes of a root's zarr.json, all of them checked.

    Raises
    ------
    CacheError
        Not a feature cache, a format version this code does not know, or any changed byte.
    """
    attributes = parse(content, where=f"{where}: zarr.json").get("attributes")
    if not isinstance(attributes, dict) or attributes.get("format") != FORMAT:
        raise CacheError(f"{where} is a zarr store but no feature cache: check the path")
    version = attributes.get("format_version")
    if version != FORMAT_VERSION:
        raise CacheError(
            f"{where} has cache format {version}, this vitv1 reads format {FORMAT_VERSION}: "
            "install the newest vitv1, or extract the cache again"
        )
    found = _SELF.findall(content)
    blank = _SELF.sub(b'"self_sha256": ""', content)
    if len(found) != 1 or hashlib.sha256(blank).hexdigest().encode() != found[0]:
        raise CacheError(f"{where}: zarr.json was changed since it was written; {_REMEDY}")
    problem = _root_problem(attributes)
    if problem:
        raise CacheError(f"{where}: zarr.json {problem}; {_REMEDY}")
    return attributes


def parse(content: bytes, *, where: str) -> dict[str, Any]:
    """A zarr.json as a mapping.

    Raises
    ------
    CacheError
        No JSON object.
    """
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise CacheError(f"{where} is not readable as JSON; {_REMEDY}")
    return document


def _root_problem(attributes: Mapping[str, Any]) -> str | None:
    """What a root lacks or contradicts, or None."""
    for name, kind in (
        ("key", str),
        ("settings", dict),
        ("provenance", dict),
        ("contents", dict),
        ("complete", bool),
    ):
        if not isinstance(attributes.get(name), kind):
            return f"lacks {name}"
    if key_of(attributes["settings"]) != attributes["key"]:
        return "has settings that do not give its key"
    n_blocks = attributes["settings"].get("backbone", {}).get("n_blocks")
    contents = attributes["contents"]
    blocks, arrays = contents.get("blocks"), contents.get("arrays")
    if not (
        isinstance(n_blocks, int)
        and isinstance(blocks, list)
        and isinstance(arrays, list)
        and all(type(b) is int and 0 <= b < n_blocks for b in blocks)
        and blocks == sorted(set(blocks))
        and arrays == [kind for kind in TOKEN_KINDS if kind in arrays]
        and _divides(contents)
    ):
        return "has contents that no cache has"
    hashes = attributes.get("metadata_sha256")
    if attributes["complete"] and (
        not isinstance(hashes, dict) or set(hashes) != set(document_paths(contents))
    ):
        return "does not name every other zarr.json"
    return None


def _divides(contents: Mapping[str, Any]) -> bool:
    """Whether shards consist of whole chunks."""
    shard, chunks = contents.get("images_per_shard"), contents.get("images_per_chunk")
    return (
        type(shard) is int
        and isinstance(chunks, dict)
        and all(type(chunks.get(kind)) is int for kind in contents["arrays"])
        and all(chunks[kind] > 0 and shard % chunks[kind] == 0 for kind in contents["arrays"])
        and shard > 0
    )


def contents_of(shape: TokenShape, layout: Layout) -> dict[str, Any]:
    """What a complete store holds, as the root's attributes say it."""
    return {
        "blocks": list(range(shape.n_blocks)),
        "arrays": list(shape.kinds()),
        "images_per_shard": layout.images_per_shard,
        "images_per_chunk": {kind: layout.images_per_chunk[kind] for kind in shape.kinds()},
    }


def layout_of(contents: Mapping[str, Any]) -> Layout:
    """How a store is cut, from its contents."""
    return Layout(
        images_per_shard=contents["images_per_shard"],
        images_per_chunk={kind: contents["images_per_chunk"][kind] for kind in contents["arrays"]},
    )


def array_paths(contents: Mapping[str, Any]) -> Iterator[str]:
    """Paths of all arrays of a store."""
    yield from ("image", "progress")
    for block in contents["blocks"]:
        for kind in contents["arrays"]:
            yield token_path(block, kind)


def group_paths(contents: Mapping[str, Any]) -> Iterator[str]:
    """Paths of all groups below the root."""
    yield "blocks"
    for block in contents["blocks"]:
        yield f"blocks/{block:02d}"


def document_paths(contents: Mapping[str, Any]) -> Iterator[str]:
    """Paths of every zarr.json but the root's."""
    for path in (*group_paths(contents), *array_paths(contents)):
        yield f"{path}/zarr.json"


def chunk_crcs(
    array: StoredArray, document: Mapping[str, Any], *, where: str
) -> NDArray[np.uint32]:
    """The checksum of every chunk of a finished array, array of shape (n_chunks,).

    Raises
    ------
    CacheError
        Absent, or not one per chunk.
    """
    try:
        content = base64.b64decode(document["attributes"][CHUNK_CRCS], validate=True)
    except (KeyError, TypeError, ValueError):
        content = b""
    if len(content) != 4 * array.n_chunks:
        raise CacheError(f"{where}: {array.metadata_path} lacks a checksum per chunk; {_REMEDY}")
    return np.frombuffer(content, dtype="<u4").astype(np.uint32)


def planned_arrays(shape: TokenShape, layout: Layout, *, n_images: int) -> Sequence[StoredArray]:
    """Every array of a complete store, image and progress first."""
    n_shards = layout.n_shards(n_images)
    arrays = [
        StoredArray(
            path="image",
            shape=(n_images,),
            dtype="int64",
            dimensions=("image",),
            rows_per_chunk=n_images,
            rows_per_shard=None,
        ),
        StoredArray(
            path="progress",
            shape=(n_shards,),
            dtype="uint8",
            dimensions=("shard",),
            rows_per_chunk=n_shards,
            rows_per_shard=None,
        ),
    ]
    for block in range(shape.n_blocks):
        arrays += [
            StoredArray(
                path=token_path(block, kind),
                shape=(n_images, *shape.item(kind)),
                dtype=shape.dtype,
                dimensions=DIMENSIONS[kind],
                rows_per_chunk=layout.images_per_chunk[kind],
                rows_per_shard=layout.images_per_shard,
            )
            for kind in shape.kinds()
        ]
    return arrays
