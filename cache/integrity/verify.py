"""The check of a cache: every byte of a finished store against its metadata."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from zarr.abc.store import RangeByteRequest
from zarr.storage import MemoryStore

from cache.errors import CacheError
from cache.format.arrays import StoredArray
from cache.format.faults import Fault, array_problem, fault_in, file_faults
from cache.format.images import HASHES, SETS, digest_of_images, is_hashed
from cache.format.metadata import (
    DOCUMENT_LIMIT,
    ROOT,
    array_paths,
    document_paths,
    read_array,
    read_root,
)
from cache.integrity.checkup import Checkup
from cache.integrity.unexpected import unexpected
from cache.stores.address import public_name
from cache.stores.base import concurrently, file_bytes
from cache.stores.location import PACKED, open_store
from cache.stores.zarr_internals import sync
from cache.stores.zip import DamagedFileError, PackedStore
from cache.stores.zip_seal import seal_faults

#: Files in flight while checking, and their bytes at a time, which one file may exceed.
CONCURRENT_FILES, CONCURRENT_BYTES = 3, 256 * 2**20

_METADATA = "/zarr.json"

Progress = Callable[[int, int], None]


def verify(path_or_url: str, *, quick: bool = False, progress: Progress | None = None) -> Checkup:
    """Check a cache in a directory, a packed file or at a URL.

    Parameters
    ----------
    quick : bool
        Metadata, completeness and the sizes of all files only.
    progress : callable, optional
        Called with a number of files of tokens that were checked, first 0, and the number of all;
        not where the check is quick.

    Raises
    ------
    CacheError
        There is no cache at all.
    """
    checkup = check_metadata(path_or_url)
    if not quick:
        check_chunks(checkup, progress=progress)
    return checkup


def check_metadata(path_or_url: str) -> Checkup:
    """The quick part of `verify`: every zarr.json, completeness, image ids, sizes of files."""
    path = str(path_or_url)
    where = public_name(path)
    try:
        store = open_store(path)
    except DamagedFileError as error:
        if not where.endswith(PACKED):
            raise
        nothing = Checkup(where=where, store=MemoryStore(read_only=True))
        nothing.note(where.rpartition("/")[2], str(error))
        return nothing
    return sync(_check_metadata(Checkup(where=where, store=store)))


def check_chunks(checkup: Checkup, *, progress: Progress | None = None) -> None:
    """The thorough part of `verify`: every byte of every token, and whether it is finite."""
    show, total = progress or (lambda done, total: None), len(checkup.files)

    async def check(array: StoredArray, file: int) -> list[Fault]:
        content = await _read(checkup, array.file_path(file), array.file_size(file))
        if content is None:
            return []
        stored = np.frombuffer(content, dtype=np.uint8)
        found = await asyncio.to_thread(
            lambda: list(file_faults(array, file, stored, ids=checkup.ids))
        )
        if not found:
            checkup.sound.add((array.path, file))
        show(1, total)
        return found

    show(0, total)
    largest = max((array.file_size(file) for array, file in checkup.files), default=1)
    at_once = min(CONCURRENT_FILES, max(1, CONCURRENT_BYTES // largest))
    found = sync(concurrently(check, checkup.files, at_once=at_once))
    checkup.faults += [fault for faults in found for fault in faults]


async def _check_metadata(checkup: Checkup) -> Checkup:
    root = await _read(checkup, ROOT)
    if root is None:
        parts = [f"{name}{_METADATA}" for name in ("blocks", "image", "progress")]
        if not any([await checkup.store.exists(part) for part in parts]):
            raise CacheError(f"{checkup.where}: no feature cache there; correct the path")
        return checkup
    try:
        attributes = checkup.attributes = read_root(root, where=checkup.where)
    except CacheError as error:
        checkup.note(ROOT, str(error))
        return checkup
    for path in document_paths(attributes["contents"]):
        content = await _read(checkup, path)
        if content is not None:
            _take_up(checkup, path, content, attributes)
    checkup.ids = await _whole(checkup, "image")
    checkup.hashes = await _whole(checkup, HASHES) if is_hashed(attributes) else None
    _check_ids(checkup, attributes)
    progress = await _whole(checkup, "progress")
    done = None if progress is None else progress == 1
    if done is not None and not done.all():
        problem = f"{int((~done).sum())} of {len(done)} shards are missing: run vitv1 extract"
        remedy: Literal["repair", "extract"] = "repair" if attributes["complete"] else "extract"
        checkup.faults.append(Fault(path="progress/c/0", problem=problem, remedy=remedy))
    elif not attributes["complete"]:
        problem = "the store was not finished: run vitv1 extract"
        checkup.faults.append(Fault(path=ROOT, problem=problem, remedy="extract"))
    await _check_sizes(checkup, done)
    files = {ROOT, *document_paths(attributes["contents"])}
    for array in checkup.arrays.values():
        files.update(array.file_path(file) for file in range(array.n_files))
    lost = set(array_paths(attributes["contents"])) - set(checkup.arrays)
    others = await unexpected(checkup.store, checkup.where, files=files, lost=lost)
    if others is None:
        checkup.unchecked.append("whether it holds files that do not belong to it")
    checkup.faults += others or []
    if isinstance(checkup.store, PackedStore):
        checkup.faults += await seal_faults(checkup.store)
    return checkup


async def _read(checkup: Checkup, path: str, size: int = DOCUMENT_LIMIT + 1) -> bytes | None:
    """A whole file of no more than `size` bytes, or None with a fault noted."""
    try:
        content = await file_bytes(checkup.store, path, RangeByteRequest(0, size))
        if content is not None:
            return content
        problem = "is absent"
    except OSError as error:
        problem = f"cannot be read: {error}"
    except CacheError as error:
        # A server that does not even give the root says nothing of the cache.
        if path == ROOT and not isinstance(error, DamagedFileError):
            raise
        problem = str(error)
    checkup.note(path, problem)
    return None


def _take_up(checkup: Checkup, path: str, content: bytes, attributes: Mapping[str, Any]) -> None:
    """Accept a zarr.json that is as the root, the format and the other arrays have it."""
    complete = bool(attributes["complete"])
    if complete and hashlib.sha256(content).hexdigest() != attributes["metadata_sha256"][path]:
        checkup.note(path, "was changed since it was written")
        return
    name = path.removesuffix(_METADATA)
    if name not in array_paths(attributes["contents"]):
        return
    try:
        version = attributes["format_version"]
        array = read_array(
            name, content, where=checkup.where, finished=complete, format_version=version
        )
    except CacheError as error:
        checkup.note(path, str(error))
        return
    problem = array_problem(array, attributes)
    if problem is not None:
        checkup.note(path, problem)
        return
    checkup.arrays[name] = array


async def _whole(checkup: Checkup, name: str) -> NDArray[Any] | None:
    """Values of an array of one chunk, or None with a fault noted."""
    array = checkup.arrays.get(name)
    if array is None:
        return None
    fault = await _size_fault(checkup, array, 0)
    if fault is not None:
        checkup.faults.append(fault)
        return None
    content = await _read(checkup, array.file_path(0), array.file_size(0))
    if content is None:
        return None
    stored = np.frombuffer(content, dtype=np.uint8)
    found = list(file_faults(array, 0, stored, ids=None))
    checkup.faults += found
    return None if found else array.decode(0, stored)


def _check_ids(checkup: Checkup, attributes: Mapping[str, Any]) -> None:
    """Check the image ids, and drop arrays of other rows before anyone walks their files."""
    ids = checkup.ids
    if ids is not None:
        if not is_hashed(attributes) and (np.diff(ids) <= 0).any():
            checkup.note("image/c/0", "image ids do not increase")
        elif is_hashed(attributes) and len(np.unique(ids)) < len(ids):
            checkup.note("image/c/0", "image ids are not each there once")
        count = attributes["settings"].get("images", {}).get("count", len(ids))
        if count != len(ids):
            checkup.note("image/c/0", f"{len(ids)} image ids, the settings say {count}")
        hashes = checkup.hashes
        if hashes is not None and attributes[SETS][-1] != {
            "count": len(ids),
            "sha256": digest_of_images(ids, hashes) if len(hashes) == len(ids) else "",
        }:
            checkup.note(f"{HASHES}/c/0/0", "ids and hashes of images are not those on record")
    for name, array in list(checkup.arrays.items()):
        if array.tokens is None:
            continue
        if ids is None and array.crcs is None:
            checkup.unchecked.append(f"{name}, since the image ids are damaged")
            del checkup.arrays[name]
        elif ids is not None and array.shape[0] != len(ids):
            problem = f"has {array.shape[0]} rows for {len(ids)} images"
            checkup.note(array.metadata_path, problem)
            del checkup.arrays[name]


async def _check_sizes(checkup: Checkup, done: NDArray[np.bool_] | None) -> None:
    """Compare the size of every file of a shard that is said to be done."""
    files = [
        (array, file)
        for array in checkup.arrays.values()
        if array.tokens is not None
        for file in range(array.n_files)
        if done is None or (file < len(done) and done[file])
    ]
    found = await concurrently(
        lambda *file: _size_fault(checkup, *file), files, at_once=4 * CONCURRENT_FILES
    )
    checkup.faults += [fault for fault in found if fault is not None]
    checkup.files = [file for file, fault in zip(files, found, strict=True) if fault is None]


async def _size_fault(checkup: Checkup, array: StoredArray, file: int) -> Fault | None:
    """What the size of a file tells of it."""
    try:
        size = await checkup.store.getsize(array.file_path(file))
        problem = array.size_problem(file, size)
    except (FileNotFoundError, NotADirectoryError, KeyError):
        problem = "is absent"
    except (OSError, CacheError) as error:
        problem = f"cannot be read: {error}"
    return None if problem is None else fault_in(array, file, problem, ids=checkup.ids)
