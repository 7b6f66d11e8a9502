"""Trials of the feature cache, each a function that counts; tests run a few, benchmarks all."""

from __future__ import annotations

import errno
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from cache import CacheError, FeatureCache, open_cache, verify
from support.faults import content, damage, make_store, restore
from support.small_extraction import N_IMAGES, PER_SHARD, Children, Extraction, rows_in, tokens_of


def kill_trials(folder: Path, n_kills: int, *, seed: int = 0) -> Counter[str]:
    """SIGKILL extractions at random moments; resume; compare with the uninterrupted store.

    Half of the resumes are killed too. Counts kills, resumes, claimed rows that differ after a
    kill, rows lost or doubled by a resume, and resumed stores that differ in any byte.
    """
    rng, children, extraction = np.random.default_rng(seed), Children(), Extraction()
    whole, path = folder / "whole.zarr", folder / "killed.zarr"
    (process,), _ = children.start(whole)
    began = time.monotonic()
    process.join()
    duration = time.monotonic() - began
    reference, expected = content(whole), tokens_of(whole)
    counts = Counter(
        {"kills": 0, "resumes": 0, "wrong rows": 0, "rows lost or doubled": 0, "stores differ": 0}
    )
    while counts["kills"] < n_kills:
        (process,), _ = children.start(path)
        time.sleep(rng.uniform(0, duration))
        process.kill()
        process.join()
        counts["kills"] += process.exitcode != 0
        claimed = rows_in(path)
        if claimed:
            # Shards are written in order, so that what is claimed comes first.
            counts["wrong rows"] += sum(
                int((values != expected[key][:claimed]).any())
                for key, values in tokens_of(path).items()
            )
        if claimed < N_IMAGES and rng.random() < 0.5 and counts["kills"] < n_kills:
            continue
        counts["rows lost or doubled"] += abs(extraction.run(path) - (N_IMAGES - claimed))
        counts["resumes"] += 1
        counts["stores differ"] += content(path) != reference
        shutil.rmtree(path)
    return counts


def two_writer_trials(folder: Path, n_trials: int) -> Counter[str]:
    """Start two extractions of the same store at once.

    Counts trials in which one won and the other was told who writes, stores with a fault, and
    stores that differ from one written alone.
    """
    children = Children()
    reference: dict[str, bytes] = {}
    counts = Counter({"trials": 0, "one won, one told": 0, "faults": 0, "stores differ": 0})
    for trial in range(n_trials):
        path = folder / f"{trial}.zarr"
        processes, results = children.start(path, 2)
        outcomes = dict(results.get() for _ in processes)
        for process in processes:
            process.join()
        pids = [str(process.pid) for process in processes]
        told = any(f"written by process {pid} on " in outcomes.get("refused", "") for pid in pids)
        counts["one won, one told"] += outcomes.get("computed") == N_IMAGES and told
        counts["faults"] += len(verify(str(path)).faults)
        reference = reference or content(path)
        counts["stores differ"] += content(path) != reference
        counts["trials"] += 1
    return counts


def reader_trial(folder: Path) -> Counter[str]:
    """Read in a loop while a store is extracted.

    Counts openings, rows read, rows that were wrong, shards that disappeared, and reads of a
    missing shard that did not raise.
    """
    children = Children()
    path, whole = folder / "read.zarr", folder / "whole.zarr"
    Extraction().run(whole)
    expected = tokens_of(whole)
    names = ("openings", "unfinished", "rows", "wrong rows", "shards gone", "missing but read")
    counts = Counter(dict.fromkeys(names, 0))
    (process,), _ = children.start(path)
    before = np.zeros(N_IMAGES // PER_SHARD, dtype=bool)
    complete = False
    while not complete:
        try:
            cache = open_cache(str(path))
        except CacheError:
            # Not created yet; anything else would fail the reads below.
            if process.exitcode is not None:
                raise
            continue
        complete = cache.complete
        counts["openings"] += 1
        counts["unfinished"] += not complete
        counts["shards gone"] += int((before & ~cache.shards_done).sum())
        before = cache.shards_done
        rows = np.flatnonzero(np.repeat(before, PER_SHARD))
        for (block, kind), tokens in expected.items():
            read = cache.block(block).read(kind, cache.image_ids[rows])
            counts["rows"] += len(rows)
            counts["wrong rows"] += int((read != tokens[rows]).any())
        if not before.all():
            missing = int(np.flatnonzero(~before)[0]) * PER_SHARD
            counts["missing but read"] += _reads(cache, missing)
    process.join()
    return counts


def fault_trials(
    folder: Path, n_faults: int, *, seed: int = 0
) -> tuple[Counter[str], Counter[str]]:
    """Damage a finished store in one random way at a time.

    Returns
    -------
    counts : Counter
        Faults done, reported by `verify`, of which touch tokens, and blocks read in spite of it.
    kinds : Counter
        How often each kind of damage was done.
    """
    root = make_store(folder / "c.zarr")
    intact, rng = content(root), np.random.default_rng(seed)
    counts = Counter({"faults": 0, "reported": 0, "affected reads": 0, "reads that returned": 0})
    kinds: Counter[str] = Counter()
    for _ in range(n_faults):
        done = damage(root, rng)
        counts["faults"] += 1
        kinds[done.kind] += 1
        counts["reported"] += bool(verify(str(root)).faults)
        for block, kind in affected(done.paths):
            counts["affected reads"] += 1
            counts["reads that returned"] += _returns(root, block, kind)
        restore(root, intact, done.paths)
    if verify(str(root)).faults:
        raise AssertionError("the damage was not undone")
    return counts, kinds


def affected(paths: tuple[str, ...]) -> set[tuple[int, str]]:
    """Blocks and arrays that cannot be read any more when these files are damaged."""
    kinds = ("patches", "cls", "registers")
    found: set[tuple[int, str]] = set()
    for path in paths:
        parts = path.split("/")
        blocks = [int(parts[1])] if parts[0] == "blocks" and len(parts) > 2 else [0, 1]
        if parts[0] == "progress":
            # A finished store's progress is verified, but no read depends on it.
            continue
        named = [parts[2]] if len(parts) > 3 and parts[0] == "blocks" else kinds
        found |= {(block, kind) for block in blocks for kind in named}
    return found


def _returns(root: Path, block: int, kind: Any) -> bool:
    """Whether anything is returned, by `read` or by the lazy array."""
    returned = 0
    for lazily in (False, True):
        try:
            cache = open_cache(str(root))
            if lazily:
                cache.block(block).array(kind)[:]
            else:
                cache.block(block).read(kind, cache.image_ids)
            returned += 1
        except CacheError:
            continue
    return bool(returned)


def _reads(cache: FeatureCache, row: int) -> bool:
    try:
        cache.block(0).read("cls", cache.image_ids[row : row + 1])
    except CacheError:
        return False
    return True


@contextmanager
def small_disk(folder: Path, n_bytes: int) -> Iterator[Path]:
    """A file system of its own in memory.

    Raises
    ------
    PermissionError
        Not root, or mounting is not allowed here.
    """
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={n_bytes}", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError as absent:
        raise PermissionError(str(absent)) from None
    if done.returncode:
        raise PermissionError(done.stderr.strip())
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def full_disk_trials(folder: Path, n_trials: int, *, seed: int = 0) -> Counter[str]:
    """Extract to a disk with too little space, then with enough.

    Counts trials, errors that say there is no space, resumes that computed only what was missing,
    and stores that differ from one written at once.

    Raises
    ------
    PermissionError
        No small disk can be made here.
    """
    rng, extraction = np.random.default_rng(seed), Extraction()
    extraction.run(folder / "whole.zarr")
    reference = content(folder / "whole.zarr")
    names = ("trials", "no space left", "resumes", "stores differ")
    counts = Counter(dict.fromkeys(names, 0))
    for trial in range(n_trials):
        with small_disk(folder / f"disk{trial}", 2**21) as disk:
            counts["trials"] += 1
            path, ballast = disk / "c.zarr", disk / "ballast"
            free = shutil.disk_usage(disk).free
            with ballast.open("wb") as file:
                # The whole store takes some 240 kB here, in pages of 4 kB.
                file.write(bytes(free - int(rng.integers(60_000, 200_000))))
            try:
                extraction.run(path)
            except OSError as error:
                counts["no space left"] += error.errno == errno.ENOSPC
            claimed = rows_in(path)
            ballast.unlink()
            counts["resumes"] += extraction.run(path) == N_IMAGES - claimed
            counts["stores differ"] += content(path) != reference
    return counts
