"""The packing of a cache into one file, which `cache.stores.zip` reads in place."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from zarr.storage import LocalStore

from cache.errors import CacheError
from cache.integrity.verify import verify
from cache.share.copy_plan import Copy
from cache.stores.location import PACKED
from cache.stores.zarr_internals import sync
from cache.stores.zip import PackedStore
from cache.stores.zip_seal import PLACEHOLDER, seal
from cache.write.atomic import replaced
from cache.write.lock import writer_lock
from cache.write.space import require_space
from cache.write.temporaries import beside, real_path

#: Earliest time that a zip can hold: the same cache always gives the same file.
EPOCH = (1980, 1, 1, 0, 0, 0)
_REGULAR_FILE = 0o100644 << 16
_UNIX = 3


def pack(copy: Copy, destination: Path, *, progress: Callable[[int], None] | None = None) -> None:
    """Write a packed cache and check every chunk of it before it gets its name.

    Parameters
    ----------
    copy : Copy
        From `cache.share.copy_plan.plan_copy`.
    destination : path
        A new file, ending in ".zip".
    progress : callable, optional
        Called with numbers of bytes of tokens: `copy.n_bytes` altogether while writing.

    Raises
    ------
    CacheError
        Something is at `destination` already, the source is damaged, or too little space.
    """
    if destination.suffix != PACKED:
        raise CacheError(f"{destination}: a packed cache's name ends in .zarr.zip; name it so")
    destination = real_path(destination)
    with writer_lock(destination) as lock:
        if destination.exists():
            raise CacheError(f"{destination} exists: delete it first, or name another file")
        require_space(copy.n_bytes, destination)
        # The name still ends in .zip, so that it is opened like the file that it becomes.
        partial = beside(destination, f"partial{PACKED}")
        with replaced(destination, temporary=partial, durable=True) as file:
            lock.hold(partial)
            _write(copy, file, progress)
            file.flush()
            packed = LocalStore(partial.parent, read_only=True)
            comment = sync(seal(PackedStore(packed, partial.name, name=str(partial))))
            file.seek(-len(PLACEHOLDER), os.SEEK_END)
            file.write(comment)
            file.flush()
            faults = verify(str(partial)).faults
            if faults:
                raise CacheError(
                    f"{partial} was not written as it should be ({faults[0]}): check the disk, "
                    "then pack again"
                )


def _write(copy: Copy, file: BinaryIO, progress: Callable[[int], None] | None) -> None:
    """Write the zip, with a place for the seal at its end."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.comment = PLACEHOLDER
        for name, content in copy.documents.items():
            archive.writestr(_entry(name), content)
        for array, number in copy.files:
            name = array.file_path(number)
            # Read through the cache, which checks every chunk.
            value = sync(copy.source.store.get(name))
            assert value is not None
            archive.writestr(_entry(name), value.as_numpy_array().data)
            if progress is not None:
                progress(len(value))


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, date_time=EPOCH)
    entry.create_system = _UNIX
    entry.external_attr = _REGULAR_FILE
    return entry
