"""The zarr.json files of a store: written as bytes that follow from their content, and checked.

The root holds the hash of every zarr.json, each array the checksum of every chunk: whoever trusts
the root can tell any changed byte of a finished store.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cache.errors import CacheError
from cache.format.arrays import StoredArray
from cache.format.identity import key_of
from cache.format.images import HASH_BYTES, HASHES, IMAGES_LIMIT, SETS, sets_problem
from cache.format.layout import DIMENSIONS, TOKEN_KINDS, Layout, TokenShape, token_path

FORMAT = "vitv1-feature-cache"
#: Version of new stores, and those that are read, mended and finished.
FORMAT_VERSION, FORMAT_VERSIONS = 2, (1, 2)

ROOT = "zarr.json"
#: Bytes of the largest zarr.json: 3.1 million chunks, of some MB each, with a checksum of 5.34
#: bytes each; and commas and brackets in it, so that parsing takes little memory, too.
DOCUMENT_LIMIT, MARKS_LIMIT = 16 * 2**20, 2**18
#: Bytes of a stored chunk of tokens, which is read at once, and of a shard's file, which is checked
#: at once.
CHUNK_LIMIT, FILE_LIMIT = 256 * 2**20, 2**30
_OVERSIZED = f"has chunks of more than {CHUNK_LIMIT >> 20} MiB, or files of more than 1 GiB"
CHUNK_CRCS = "chunk_crc32c"
#: Attribute of an unfinished root: per shard, its `cache.write.writer.shard_sum` once it is done.
SHARD_SUMS = "shard_sha256"

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


def array_bytes(array: StoredArray) -> bytes:
    """The zarr.json of an array, with its checksums where it has them."""
    attributes = {}
    if array.crcs is not None:
        attributes[CHUNK_CRCS] = base64.b64encode(array.crcs.astype("<u4").tobytes()).decode()
    return document_bytes(array.document(attributes))


def documents_of(contents: Mapping[str, Any], arrays: Iterable[StoredArray]) -> dict[str, bytes]:
    """Every zarr.json of a store but the root's, path to bytes."""
    groups = {f"{path}/zarr.json": group_bytes() for path in _group_paths(contents)}
    return groups | {array.metadata_path: array_bytes(array) for array in arrays}


def root_bytes(attributes: Mapping[str, Any]) -> bytes:
    """The root's zarr.json with its own hash filled in.

    `self_sha256` is the sha256 of these bytes with the 64 digits left out.
    """
    blank = group_bytes({**attributes, "self_sha256": ""})
    digest = hashlib.sha256(blank).hexdigest()
    return group_bytes({**attributes, "self_sha256": digest})


def new_attributes(
    settings: Mapping[str, Any],
    provenance: Mapping[str, Any],
    shape: TokenShape,
    layout: Layout,
    *,
    image_sets: Sequence[Mapping[str, Any]] = (),
    format_version: int = FORMAT_VERSION,
) -> dict[str, Any]:
    """The root's attributes of a store that is begun; it has hashes if there are `image_sets`."""
    hashed = {SETS: list(image_sets)} if image_sets else {}
    return {
        "format": FORMAT,
        "format_version": format_version,
        "key": key_of(settings),
        "settings": dict(settings),
        "provenance": dict(provenance),
        "contents": {
            "blocks": list(range(shape.n_blocks)),
            "arrays": list(shape.kinds()),
            "images_per_shard": layout.images_per_shard,
            "images_per_chunk": {kind: layout.images_per_chunk[kind] for kind in shape.kinds()},
            **({HASHES: True} if image_sets else {}),
        },
        "complete": False,
        **shape.document(),
        **hashed,
    }


def finished_attributes(
    attributes: Mapping[str, Any], documents: Mapping[str, bytes]
) -> dict[str, Any]:
    """A finished root's attributes; `documents` maps the path of every other zarr.json to bytes."""
    hashes = {path: hashlib.sha256(content).hexdigest() for path, content in documents.items()}
    return {**attributes, "complete": True, "metadata_sha256": hashes}


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
    if type(version) is not int or version not in FORMAT_VERSIONS:
        raise CacheError(
            f"{where} has cache format {version}, this vitv1 reads formats 1 and 2: "
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
    """A zarr.json as a mapping, or `CacheError` where it is too large or no JSON object."""
    if len(content) > DOCUMENT_LIMIT or sum(map(content.count, (b",", b"[", b"{"))) > MARKS_LIMIT:
        raise CacheError(
            f"{where} is larger than any cache's ({DOCUMENT_LIMIT >> 20} MiB, {MARKS_LIMIT:,} "
            "values): take the cache from elsewhere, or correct the path"
        )
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
    if problem := sets_problem(attributes):
        return problem
    if key_of(attributes["settings"]) != attributes["key"]:
        return "has settings that do not give its key"
    n_blocks = attributes["settings"].get("backbone", {}).get("n_blocks")
    contents = attributes["contents"]
    blocks, arrays = contents.get("blocks"), contents.get("arrays")
    shard, chunks = contents.get("images_per_shard"), contents.get("images_per_chunk")
    if not (
        isinstance(n_blocks, int)
        and isinstance(blocks, list)
        and isinstance(arrays, list)
        and all(type(b) is int and 0 <= b < n_blocks for b in blocks)
        and blocks == sorted(set(blocks))
        and arrays == [kind for kind in TOKEN_KINDS if kind in arrays]
        and type(shard) is int
        and shard > 0
        and isinstance(chunks, dict)
        and all(type(chunks.get(k)) is int and chunks[k] > 0 for k in arrays)
        and all(shard % chunks[k] == 0 for k in arrays)
    ):
        return "has contents that no cache has"
    if not isinstance(attributes.get(SHARD_SUMS, []), list):
        return "has sums of shards that no cache has"
    hashes = attributes.get("metadata_sha256")
    if attributes["complete"] and (
        not isinstance(hashes, dict) or set(hashes) != set(document_paths(contents))
    ):
        return "does not name every other zarr.json"
    return None


def array_paths(contents: Mapping[str, Any]) -> list[str]:
    """Paths of all arrays of a store."""
    hashes = [HASHES] if contents.get(HASHES) else []
    blocks, kinds = contents["blocks"], contents["arrays"]
    return ["image", "progress", *hashes, *(token_path(b, kind) for b in blocks for kind in kinds)]


def _group_paths(contents: Mapping[str, Any]) -> list[str]:
    """Paths of all groups below the root."""
    return ["blocks", *(f"blocks/{block:02d}" for block in contents["blocks"])]


def document_paths(contents: Mapping[str, Any]) -> list[str]:
    """Paths of every zarr.json but the root's."""
    return [f"{path}/zarr.json" for path in _group_paths(contents) + array_paths(contents)]


def read_array(
    path: str, content: bytes, *, where: str, finished: bool, format_version: int
) -> StoredArray:
    """The array that a zarr.json describes, with its checksums if `finished`, or `CacheError`."""
    document = parse(content, where=f"{where}: {path}/zarr.json")
    array = StoredArray.from_document(path, document, where=where, format_version=format_version)
    if array.tokens is None and array.shape[0] > IMAGES_LIMIT:
        raise CacheError(f"{where}: {path} claims more images than any cache has; {_REMEDY}")
    if is_oversized(array):
        raise CacheError(f"{where}: {path} {_OVERSIZED}: do not trust it, or extract it anew")
    if not finished:
        return array
    try:
        crcs = base64.b64decode(document["attributes"][CHUNK_CRCS], validate=True)
    except (KeyError, TypeError, ValueError):
        crcs = b""
    if len(crcs) != 4 * array.n_chunks:
        raise CacheError(f"{where}: {array.metadata_path} lacks a checksum per chunk; {_REMEDY}")
    return replace(array, crcs=np.frombuffer(crcs, dtype="<u4").astype(np.uint32))


def is_oversized(array: StoredArray) -> bool:
    """Whether a chunk or a file of tokens is larger than what is read at once."""
    return array.tokens is not None and (
        array.stored_chunk_bytes > CHUNK_LIMIT or array.file_size(0) > FILE_LIMIT
    )


def planned_arrays(
    shape: TokenShape,
    layout: Layout,
    *,
    n_images: int,
    hashed: bool = False,
    format_version: int = FORMAT_VERSION,
) -> Sequence[StoredArray]:
    """Every array of a complete store, image and progress first, then hashes where it has them."""

    def of_one_chunk(path: str, dtype: str, **axes: int) -> StoredArray:
        rows, *_ = axes.values()
        return StoredArray(
            path=path,
            shape=tuple(axes.values()),
            dtype=dtype,
            dimensions=tuple(axes),
            rows_per_chunk=rows,
            rows_per_shard=None,
            format_version=format_version,
        )

    tokens = [
        StoredArray(
            path=token_path(block, kind),
            shape=(n_images, *shape.item(kind, block)),
            dtype=shape.dtype,
            dimensions=DIMENSIONS[kind],
            rows_per_chunk=layout.images_per_chunk[kind],
            rows_per_shard=layout.images_per_shard,
            format_version=format_version,
        )
        for block in range(shape.n_blocks)
        for kind in shape.kinds()
    ]
    most_chunks = max(array.n_chunks for array in tokens)
    if n_images > IMAGES_LIMIT or 5.4 * most_chunks > DOCUMENT_LIMIT - 2**16:
        raise CacheError(
            f"{n_images:,} images in {most_chunks:,} chunks are more than a cache holds (16.7 and "
            "3.1 million): make chunks larger, or several caches"
        )
    if any(map(is_oversized, tokens)):
        raise CacheError(f"the layout {_OVERSIZED}: name fewer images per chunk or shard")
    return [
        of_one_chunk("image", "int64", image=n_images),
        of_one_chunk("progress", "uint8", shard=layout.n_shards(n_images)),
        *([of_one_chunk(HASHES, "uint8", image=n_images, byte=HASH_BYTES)] if hashed else []),
        *tokens,
    ]
