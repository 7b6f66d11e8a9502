"""The repair of a store: metadata is rewritten, damaged shards are marked for extraction.

A shard stays only if every chunk has the checksum that an intact record says; metadata is rebuilt
only where its hash, or the experiment's own settings, confirm it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.errors import CacheError
from cache.format.arrays import StoredArray
from cache.format.faults import Fault, file_faults
from cache.format.identity import differences, key_of
from cache.format.images import HASHES, SETS
from cache.format.layout import Layout, TokenShape, plan_layout
from cache.format.metadata import (
    FORMAT_VERSION,
    FORMAT_VERSIONS,
    ROOT,
    SHARD_SUMS,
    array_bytes,
    array_paths,
    documents_of,
    new_attributes,
    planned_arrays,
    read_array,
    root_bytes,
)
from cache.images import HashedImages, as_images
from cache.integrity.checkup import Checkup
from cache.integrity.verify import Progress, check_chunks, check_metadata
from cache.stores.base import local_document
from cache.write.atomic import replace_files
from cache.write.lock import writer_lock
from cache.write.temporaries import beside, discard, inside
from cache.write.writer import has_file, shard_sum, stored_crcs


@dataclass(frozen=True, kw_only=True)
class Repair:
    """What was done, and what is left.

    Attributes
    ----------
    shards : tuple of int
        Given up; an extraction writes them again.
    rewritten : tuple of str
        Metadata files that were written anew.
    left : tuple of Fault
        What only a person can decide: things in the store that do not belong to it.
    """

    shards: tuple[int, ...] = ()
    rewritten: tuple[str, ...] = ()
    left: tuple[Fault, ...] = ()


def prepare_repair(
    path: Path,
    *,
    settings: Mapping[str, Any],
    provenance: Mapping[str, Any],
    image_ids: NDArray[np.int64],
    shape: TokenShape,
    image_sha256: NDArray[np.uint8] | None = None,
    progress: Progress | None = None,
) -> Repair:
    """Mend what can be mended and mark the damaged shards as missing.

    An ordinary extraction then resumes the store and finishes it. A store with hashes may hold more
    images than are given: those of its damaged shards must be among them.

    Parameters
    ----------
    settings, provenance, image_ids, shape, image_sha256, progress
        As for `write_cache` and `verify`.

    Raises
    ------
    CacheError
        No store, another writer, a store of other settings or of images that are not at hand, or
        one that holds some blocks only.
    """
    with writer_lock(path):
        checkup = check_metadata(str(path))
        _require_same(checkup, settings, shape)
        if checkup.attributes is None:
            _take_documents_at_their_word(checkup, path, shape)
        images = None if image_sha256 is None else as_images(image_ids, image_sha256)
        held = None if images is None else _held(checkup, images)
        ids = image_ids if held is None else held.ids
        layout = _layout(checkup, shape, n_images=len(ids))
        version = _format_version(checkup)
        arrays = planned_arrays(
            shape, layout, n_images=len(ids), hashed=held is not None, format_version=version
        )
        checkup.files += _unnamed_files(checkup, path, arrays)
        check_chunks(checkup, progress=progress)
        if checkup.ids is not None and not np.array_equal(checkup.ids, ids):
            checkup.note("image/c/0", "holds other image ids than the experiment")
        left = tuple(fault for fault in checkup.faults if fault.remedy == "delete")
        if all(fault.remedy != "repair" for fault in checkup.faults):
            return Repair(left=left)
        tokens = [array for array in arrays if array.tokens is not None]
        shards = range(tokens[0].n_files)
        begun = checkup.attributes or new_attributes(
            settings,
            provenance,
            shape,
            layout,
            image_sets=[] if held is None else [held.set],
            format_version=version,
        )
        sums = [
            shard_sum(path, tokens, shard)
            if all((array.path, shard) in checkup.sound for array in tokens)
            else None
            for shard in shards
        ]
        recorded = begun.get(SHARD_SUMS, sums)
        damaged = [s for s in shards if sums[s] is None or sums[s] != recorded[s]]
        if images is not None and held is not None:
            size = layout.images_per_shard
            images.require(held, damaged, per_shard=size, where=checkup.where)
        stored = begun["provenance"]
        repairs = [*stored.get("repairs", []), {**provenance, "shards": damaged}]
        attributes = {**begun, "provenance": {**stored, "repairs": repairs}, SHARD_SUMS: sums}
        mended = _mend(path, attributes, arrays, damaged=damaged, image_ids=ids, images=held)
        touched = {fault.path for fault in checkup.faults}
    return Repair(shards=tuple(damaged), rewritten=tuple(sorted(touched & mended)), left=left)


def _require_same(checkup: Checkup, settings: Mapping[str, Any], shape: TokenShape) -> None:
    if checkup.attributes is None:
        return
    if checkup.attributes["key"] != key_of(settings):
        differing = "; ".join(differences(settings, checkup.attributes["settings"]))
        raise CacheError(
            f"{checkup.where} holds other tokens than this experiment names ({differing}): repair "
            "it with the experiment that made it"
        )
    contents = checkup.attributes["contents"]
    held = (contents["blocks"], contents["arrays"])
    if held != (list(range(shape.n_blocks)), list(shape.kinds())):
        raise CacheError(
            f"{checkup.where} is a part of a cache: fetch it again with vitv1 cache pull"
        )


def _held(checkup: Checkup, given: HashedImages) -> HashedImages:
    """The images of the store: those that are there, or given, as the root has them on record."""
    there = given
    if checkup.ids is not None and checkup.hashes is not None:
        there = HashedImages(checkup.ids, checkup.hashes)
    if checkup.attributes is None:
        return there
    recorded = checkup.attributes[SETS][-1]
    for images in (there, given):
        if images.set == recorded:
            return images
    raise CacheError(
        f"{checkup.where}: the ids or hashes of its {recorded['count']:,} images are damaged: "
        "repair it with an experiment of all of them and no others, or fetch it again"
    )


def _take_documents_at_their_word(checkup: Checkup, path: Path, shape: TokenShape) -> None:
    """Without a root, arrays speak for themselves; their chunks then bear them out or not."""
    hashed = (path / HASHES).exists()
    contents = {"blocks": range(shape.n_blocks), "arrays": shape.kinds(), HASHES: hashed}
    for name, version in product(array_paths(contents), FORMAT_VERSIONS):
        with suppress(OSError, CacheError):
            content = local_document(path / name / "zarr.json")
            checkup.arrays[name] = read_array(
                name, content, where=name, finished=True, format_version=version
            )
    for name in ("image", HASHES) if hashed else ():
        with suppress(OSError, KeyError):
            array = checkup.arrays[name]
            stored = np.fromfile(path / array.file_path(0), dtype=np.uint8)
            if not any(file_faults(array, 0, stored, ids=None)):
                values = array.decode(0, stored)
                checkup.ids = values if name == "image" else checkup.ids
                checkup.hashes = values if name == HASHES else checkup.hashes


def _format_version(checkup: Checkup) -> int:
    """That of the store, told by what is left of it: tokens are alike in no two."""
    if checkup.attributes is not None:
        return int(checkup.attributes["format_version"])
    left = (a.format_version for a in checkup.arrays.values() if a.tokens is not None)
    return next(left, FORMAT_VERSION)


def _layout(checkup: Checkup, shape: TokenShape, *, n_images: int) -> Layout:
    """How the store was cut: told by what is left of it, planned where nothing is."""
    if checkup.attributes is not None:
        contents = checkup.attributes["contents"]
        return Layout(
            images_per_shard=contents["images_per_shard"],
            images_per_chunk=contents["images_per_chunk"],
        )
    plan = plan_layout(shape, n_images=n_images)
    chunks, per_shard = dict(plan.images_per_chunk), plan.images_per_shard
    for array in checkup.arrays.values():
        if array.tokens is not None and array.rows_per_shard is not None:
            _, kind = array.tokens
            chunks[kind], per_shard = array.rows_per_chunk, array.rows_per_shard
    fitting = {kind: math.gcd(chunk, per_shard) for kind, chunk in chunks.items()}
    return Layout(images_per_shard=per_shard, images_per_chunk=fitting)


def _unnamed_files(
    checkup: Checkup, path: Path, planned: Iterable[StoredArray]
) -> Iterator[tuple[StoredArray, int]]:
    """Files of tokens that `check_metadata` could not name, since a zarr.json is lost."""
    root = checkup.attributes
    for array in planned:
        held = checkup.arrays.get(array.path)
        if array.tokens is None or (root is not None and held is not None):
            continue
        if root is None:
            if held != array:
                continue
            array = held
        elif root["complete"]:
            # The checksums at the chunks' ends count if the root's hash confirms them.
            try:
                array = replace(array, crcs=stored_crcs(path, array))
                digest = hashlib.sha256(array_bytes(array)).hexdigest()
            except (OSError, ValueError):
                continue
            if digest != root["metadata_sha256"][array.metadata_path]:
                continue
        for file in range(array.n_files):
            if has_file(path, array, file):
                yield array, file


def _mend(
    path: Path,
    attributes: Mapping[str, Any],
    arrays: Sequence[StoredArray],
    *,
    damaged: Sequence[int],
    image_ids: NDArray[np.int64],
    images: HashedImages | None,
) -> set[str]:
    """Progress first, then the root, then the rest: no step claims what is not there.

    Returns the metadata files that were written.
    """
    image, progress, *_ = arrays
    tokens = [array for array in arrays if array.tokens is not None]
    hashes = {} if images is None else {arrays[2].file_path(0): arrays[2].encode(0, images.hashes)}
    done = np.ones(progress.shape, dtype=np.uint8)
    done[damaged] = 0
    unfinished = {**attributes, "complete": False}
    unfinished.pop("metadata_sha256", None)
    steps: list[dict[str, bytes | bytearray]] = [
        {progress.file_path(0): progress.encode(0, done)},
        {ROOT: root_bytes(unfinished)},
        {
            **documents_of(attributes["contents"], arrays),
            image.file_path(0): image.encode(0, image_ids),
            **hashes,
        },
    ]
    for files in steps:
        for name in files:
            # Whatever is there in the place of a file.
            if (path / name).is_symlink() or (path / name).is_dir():
                _clear(path, name)
        replace_files(path, files.items(), temporary=beside(path, "part"))
    for array in tokens:
        if len(damaged) == len(done):
            _clear(path, f"{array.path}/c")
        for shard in damaged:
            _clear(path, array.file_path(shard))
    return {name for files in steps for name in files}


def _clear(store: Path, name: str) -> None:
    path = inside(store, name)
    if path.is_symlink():
        path.unlink()
    else:
        discard(path)
