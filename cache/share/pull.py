"""The copy of a cache, or of some of its blocks, in a directory: parallel, resumed, verified."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from zarr.abc.store import RangeByteRequest
from zarr.buffer import default_buffer_prototype

from cache.errors import CacheError
from cache.feature_cache import open_cache
from cache.format.arrays import StoredArray
from cache.format.faults import fault_in, file_faults
from cache.format.images import SETS, continues
from cache.format.metadata import ROOT, array_paths
from cache.integrity.verify import verify
from cache.share.copy_plan import Copy
from cache.stores.base import WholeFilesOnlyError
from cache.stores.zarr_internals import sync
from cache.write.atomic import link_file, place_folder, replace_files, replaced
from cache.write.lock import WriterLock, writer_lock
from cache.write.space import require_space
from cache.write.temporaries import beside, discard, real_path, require_ours

#: Files in flight.
THREADS = 8
#: Bytes asked for at a time: large against a network's latency, small against memory.
PIECE = 16 * 2**20

ByteProgress = Callable[[int], None]


def pull(
    copy: Copy,
    destination: Path,
    *,
    threads: int = THREADS,
    progress: ByteProgress | None = None,
    extend: bool = False,
) -> int:
    """Copy a cache; an interrupted copy waits in `<destination>.vitv1-partial`, goes on from there.

    A file counts as copied once each of its chunks has the checksum that the source's metadata
    record, now or when an earlier attempt is taken up.

    Parameters
    ----------
    copy : Copy
        From `cache.share.copy_plan.plan_copy`.
    destination : path
        A new directory, or one that holds what is asked for already.
    threads : int
        Files copied at a time.
    progress : callable, optional
        Called with numbers of bytes, those found there included: `copy.n_bytes` altogether.
    extend : bool
        Add to a part of the same cache that is at `destination`, instead of refusing it. It stays
        as it is until all that it lacks is there.

    Returns
    -------
    int
        Bytes of tokens fetched.

    Raises
    ------
    CacheError
        Another cache, or something else, at `destination` or where the copy waits; too little
        space; a source that is damaged or cannot be reached.
    """
    destination = real_path(destination)
    with writer_lock(destination) as lock:
        _put_back(destination)
        if destination.exists() and _holds_all(copy, destination, extend=extend):
            return 0
        partial, old = beside(destination, "partial"), beside(destination, "old")
        discard(old)
        if partial.is_symlink() or partial.exists():
            require_ours(partial)
        if destination.exists():
            _begin_with(copy, destination, partial)
        fetched = _Pull(copy, partial, lock, progress or (lambda n_bytes: None)).run(threads)
        documents = reversed(copy.documents.items())
        replace_files(partial, documents, temporary=beside(partial / ROOT, "part"))
        faults = verify(str(partial), quick=True).faults
        if faults:
            raise CacheError(
                f"{partial} did not become a whole cache ({faults[0]}): delete it, then pull again"
            )
        place_folder(partial, destination, aside=old)
        discard(old)
        return fetched


def recover_copy(destination: Path) -> None:
    """Give a copy its name back if whoever extended it was killed before the larger one had it.

    Raises
    ------
    CacheError
        Another process writes there.
    """
    if not destination.exists() and beside(destination, "old").exists():
        with writer_lock(destination):
            _put_back(real_path(destination))


def _put_back(destination: Path) -> None:
    old = beside(destination, "old")
    if not destination.exists() and old.exists():
        require_ours(old)
        old.rename(destination)


def _begin_with(copy: Copy, held: Path, partial: Path) -> None:
    """Take the files of a smaller copy: links to them, or copies where the disk has no links."""
    for array, number in copy.files:
        name = array.file_path(number)
        file, place = held / name, partial / name
        if file.is_file() and not (file.is_symlink() or place.exists()):
            link_file(file, place)


def _holds_all(copy: Copy, destination: Path, *, extend: bool) -> bool:
    """Whether nothing is to be copied; refused where something is and cannot be added."""
    try:
        there = open_cache(str(destination))
    except CacheError:
        problem = "is in the way"
    else:
        held = set(array_paths(there.store.attributes["contents"]))
        source, own = copy.source.store.attributes, there.store.attributes
        if there.key != copy.source.key:
            problem = "holds other tokens (another key)"
        elif there.complete and own.get(SETS) != source.get(SETS):
            if extend and continues(source, own):
                return False
            problem = "holds other images of the same recipe"
        elif there.complete and (wanted := {array.path for array in copy.arrays}) <= held:
            return True
        elif extend and there.complete and held <= wanted:
            return False
        elif extend and there.complete:
            raise CacheError(f"{destination} has grown meanwhile: repeat the command")
        else:
            problem = f"holds blocks {there.blocks} ({', '.join(there.kinds)}), not all you ask for"
    raise CacheError(f"{destination} {problem}: name another directory, or delete this one first")


class _Stopped(Exception):
    """Another thread failed, or a person pressed Ctrl-C."""


@dataclass
class _Pull:
    """One copy in progress."""

    copy: Copy
    partial: Path
    lock: WriterLock
    progress: ByteProgress
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self, threads: int) -> int:
        """Fetch every file that is not there yet; returns the number of bytes."""
        self._clear()
        files = self.copy.files
        pool = ThreadPoolExecutor(threads, "pull")
        try:
            kept = pool.map(lambda file: self._keep(*file), files)
            missing = [file for file, whole in zip(files, kept, strict=True) if not whole]
            needed = sum(array.file_size(number) for array, number in missing)
            require_space(needed, self.partial)
            self.partial.mkdir(exist_ok=True)
            self.lock.hold(self.partial)
            work = [pool.submit(self._fetch, *file) for file in missing]
            wait(work, return_when=FIRST_EXCEPTION)
            self.stopped.set()
            for result in work:
                if result.done():
                    result.result()
        finally:
            # Threads end soon after a failure or Ctrl-C, before it is told.
            self.stopped.set()
            pool.shutdown(wait=True, cancel_futures=True)
        return needed

    def _clear(self) -> None:
        """Delete what an earlier attempt left that is no part of this copy."""
        wanted = {array.file_path(number) for array, number in self.copy.files}
        for path in sorted(self.partial.rglob("*"), reverse=True):
            if not path.is_dir():
                if str(path.relative_to(self.partial)) not in wanted:
                    path.unlink()
            elif not any(path.iterdir()):
                path.rmdir()

    def _keep(self, array: StoredArray, number: int) -> bool:
        """Whether an earlier attempt left this file whole."""
        path = self.partial / array.file_path(number)
        if self.stopped.is_set() or not path.is_file():
            return False
        content = np.fromfile(path, dtype=np.uint8)
        if any(file_faults(array, number, content, ids=None)):
            return False
        self.progress(len(content))
        return True

    def _fetch(self, array: StoredArray, number: int) -> None:
        """One file, piece by piece, each chunk checked before it is written."""
        path = self.partial / array.file_path(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        chunks = array.file_chunks(number)
        step = max(1, PIECE // array.stored_chunk_bytes)
        with suppress(_Stopped), replaced(path, temporary=beside(path, "part")) as file:
            parts = [chunks[first : first + step] for first in range(0, len(chunks), step)]
            while parts:
                if self.stopped.is_set():
                    raise _Stopped
                try:
                    content = self._read(array, number, parts.pop(0))
                except WholeFilesOnlyError:
                    # The first part was refused, so nothing is written yet.
                    content, parts = self._read(array, number, chunks, whole=True), []
                file.write(content.data)
                self.progress(len(content))
            index = array.index(number)
            file.write(index)
            self.progress(len(index))

    def _read(
        self, array: StoredArray, number: int, chunks: range, *, whole: bool = False
    ) -> NDArray[np.uint8]:
        """Neighbouring chunks in one request, array of shape (n_bytes,)."""
        source, path, size = self.copy.source, array.file_path(number), array.stored_chunk_bytes
        first = (chunks.start - array.file_chunks(number).start) * size
        part = RangeByteRequest(first, first + len(chunks) * size)
        # The verifying store hands out single chunks; its check is made here for several.
        asked = None if whole else part
        value = sync(source.store._store.get(path, default_buffer_prototype(), asked))
        stored = b"" if value is None else value.as_numpy_array()
        content = np.frombuffer(stored, dtype=np.uint8)[: part.end - part.start]
        for position, chunk in enumerate(chunks):
            problem = array.chunk_problem(chunk, content[position * size : (position + 1) * size])
            if problem is not None:
                rows = array.chunk_rows(chunk)
                fault = fault_in(array, number, problem, ids=source.image_ids, rows=rows)
                raise CacheError(
                    f"{source.name}: {fault}: what was copied so far is kept; pull again, and if "
                    "this comes again, ask for the source to be repaired (vitv1 cache repair)"
                )
        return content
