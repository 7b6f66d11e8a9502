"""The repair of a store: metadata is rewritten, damaged shards are marked for extraction.

What is kept has proven itself: a shard stays only if every chunk has the checksum that an intact
record says, and metadata is rebuilt only where its hash, or the experiment's own settings, confirm
it. In doubt a shard is computed again.
"""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.errors import CacheError
from cache.format.arrays import StoredArray
from cache.format.faults import Fault
from cache.format.identity import differences, key_of
from cache.format.layout import Layout, TokenShape, plan_layout
from cache.format.metadata import (
    ROOT,
    array_bytes,
    array_paths,
    chunk_crcs,
    contents_of,
    group_bytes,
    group_paths,
    layout_of,
    new_attributes,
    parse,
    planned_arrays,
    root_bytes,
    unfinished_attributes,
)
from cache.integrity.checkup import Checkup
from cache.integrity.verify import Progress, check_chunks, check_metadata
from cache.write.atomic import beside, replace_files
from cache.write.lock import writer_lock
from cache.write.writer import has_size, stored_crcs


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
    progress: Progress | None = None,
) -> Repair:
    """Mend what can be mended and mark the damaged shards as missing.

    An ordinary extraction then resumes the store and finishes it.

    Parameters
    ----------
    settings, provenance, image_ids, shape
        As for `cache.write.writer.write_cache`.
    progress : callable, optional
        As for `cache.integrity.verify.verify`.

    Raises
    ------
    CacheError
        No store, another writer, a store of other settings, or one that holds some blocks only.
    """
    with writer_lock(path):
        checkup = check_metadata(str(path))
        _require_same(checkup, settings, shape)
        patient = _Patient(path=path, checkup=checkup, ids=image_ids, shape=shape)
        check_chunks(checkup, progress=progress)
        left = tuple(fault for fault in checkup.faults if fault.remedy == "delete")
        if all(fault.remedy != "repair" for fault in checkup.faults):
            return Repair(left=left)
        damaged = patient.damaged_shards()
        rewritten = patient.mend(damaged, settings, provenance)
    return Repair(shards=tuple(damaged), rewritten=tuple(rewritten), left=left)


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


@dataclass(kw_only=True)
class _Patient:
    """A damaged store, what is known of it, and what it ought to be."""

    path: Path
    checkup: Checkup
    ids: NDArray[np.int64]
    shape: TokenShape
    arrays: dict[str, StoredArray] = field(init=False)

    def __post_init__(self) -> None:
        self._take_documents_at_their_word()
        planned = planned_arrays(self.shape, self._layout(), n_images=len(self.ids))
        self.arrays = {array.path: array for array in planned}
        if self.checkup.attributes is None:
            for array in self.tokens:
                if self.checkup.arrays.get(array.path) == array:
                    self._examine(array)
        else:
            self._recover_crcs()

    @property
    def tokens(self) -> list[StoredArray]:
        return [array for array in self.arrays.values() if array.tokens is not None]

    def _take_documents_at_their_word(self) -> None:
        """Without a root, arrays speak for themselves; their chunks then bear them out or not."""
        if self.checkup.attributes is not None:
            return
        contents = {"blocks": range(self.shape.n_blocks), "arrays": self.shape.kinds()}
        for name in array_paths(contents):
            try:
                content = (self.path / name / "zarr.json").read_bytes()
                document = parse(content, where=name)
                array = StoredArray.from_document(name, document, where=name)
                self.checkup.crcs[name] = chunk_crcs(array, document, where=name)
                self.checkup.arrays[name] = array
            except (OSError, CacheError):
                continue

    def _examine(self, array: StoredArray) -> None:
        """Have an array's files checked that `check_metadata` could not name."""
        self.checkup.files += [
            (array, file)
            for file in range(array.n_files)
            if has_size(self.path / array.file_path(file), array.file_size(file))
        ]

    def _layout(self) -> Layout:
        """How the store was cut: told by what is left of it, planned where nothing is."""
        if self.checkup.attributes is not None:
            return layout_of(self.checkup.attributes["contents"])
        plan = plan_layout(self.shape, n_images=len(self.ids))
        chunks, per_shard = dict(plan.images_per_chunk), plan.images_per_shard
        for array in self.checkup.arrays.values():
            if array.tokens is not None and array.rows_per_shard is not None:
                _, kind = array.tokens
                chunks[kind], per_shard = array.rows_per_chunk, array.rows_per_shard
        fitting = {kind: math.gcd(chunk, per_shard) for kind, chunk in chunks.items()}
        return Layout(images_per_shard=per_shard, images_per_chunk=fitting)

    def _recover_crcs(self) -> None:
        """The checksums of an array whose zarr.json is lost, if the root's hash confirms them."""
        attributes = self.checkup.attributes
        assert attributes is not None
        for array in self.tokens:
            if array.path in self.checkup.arrays:
                continue
            if not attributes["complete"]:
                self._examine(array)
                continue
            try:
                crcs = stored_crcs(self.path, array)
                digest = hashlib.sha256(array_bytes(array, crcs)).hexdigest()
            except (OSError, ValueError):
                continue
            if digest == attributes["metadata_sha256"][array.metadata_path]:
                self.checkup.crcs[array.path] = crcs
                self._examine(array)

    def damaged_shards(self) -> list[int]:
        """Shards that are missing or of which any file is not proven, in order."""
        n_shards = self.arrays["progress"].shape[0]
        sound = self.checkup.sound
        return [
            shard
            for shard in range(n_shards)
            if not all((array.path, shard) in sound for array in self.tokens)
        ]

    def mend(
        self, damaged: Sequence[int], settings: Mapping[str, Any], provenance: Mapping[str, Any]
    ) -> list[str]:
        """Progress first, then the root, then the rest: no step claims what is not there."""
        done = np.ones(self.arrays["progress"].shape, dtype=np.uint8)
        done[damaged] = 0
        image, progress = self.arrays["image"], self.arrays["progress"]
        attributes = self.checkup.attributes or new_attributes(
            settings, provenance, contents_of(self.shape, self._layout())
        )
        stored = attributes["provenance"]
        repairs = [*stored.get("repairs", []), {**provenance, "shards": list(damaged)}]
        attributes = {**attributes, "provenance": {**stored, "repairs": repairs}}
        self._put({progress.file_path(0): progress.encode(0, done)})
        self._put({ROOT: root_bytes(unfinished_attributes(attributes))})
        files: dict[str, bytes | bytearray] = {
            f"{group}/zarr.json": group_bytes() for group in group_paths(attributes["contents"])
        }
        files |= {array.metadata_path: array_bytes(array) for array in self.arrays.values()}
        files[image.file_path(0)] = image.encode(0, self.ids)
        self._put(files)
        for array in self.tokens:
            if len(damaged) == len(done):
                _clear(self.path / array.path / "c")
            for shard in damaged:
                _clear(self.path / array.file_path(shard))
        touched = {fault.path for fault in self.checkup.faults}
        return sorted(touched & {ROOT, progress.file_path(0), *files})

    def _put(self, files: Mapping[str, bytes | bytearray]) -> None:
        """Write files durably, each in the place of whatever is there."""
        for path in (self.path / name for name in files):
            if path.is_symlink() or path.is_dir():
                _clear(path)
        replace_files(self.path, files.items(), temporary=beside(self.path, ".part"))


def _clear(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
