"""Growth of small stores, whole and killed before each change of a file."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.trust.doomed import die_before

from cache import CacheError, open_cache, verify
from cache.write.grow import recover_grown
from support.faults import SHAPE, open_writer, settings, token, write_all
from support.forked import forked

FIRST, BOTH = np.arange(0, 42, 4), np.arange(0, 42, 2)


def hashes_of(ids):
    return (np.arange(32) + ids[:, None] * 7).astype(np.uint8)


def recipe(**changed):
    return {name: value for name, value in settings(**changed).items() if name != "images"}


def grower(path, ids, **options):
    given = {"settings": recipe(), "image_ids": ids, "image_sha256": hashes_of(ids)}
    return open_writer(path, **(given | options))


def extract(path, ids, **options):
    """Write what is missing until the store holds all ids; the images that were computed."""
    computed = []
    while True:
        with grower(path, ids, **options) as writer:
            missing = writer.missing_shards()
            computed += [writer.shard_ids(shard) for shard in missing]
            if not writer.cache.complete:
                write_all(writer)
            if not len(np.setdiff1d(ids, writer.cache.image_ids)):
                return np.concatenate(computed) if computed else np.array([])


def assert_holds(path, ids):
    assert not verify(str(path)).faults
    cache = open_cache(path)
    assert set(ids) <= set(cache.image_ids) and cache.complete
    np.testing.assert_array_equal(cache.image_sha256, hashes_of(cache.image_ids))
    for block in range(SHAPE.n_blocks):
        for kind in SHAPE.kinds():
            read = cache.block(block).read(kind, ids)
            np.testing.assert_array_equal(read, token(block, kind, ids))


def growth_kills(folder: Path, n_kills: int, *, seed: int = 0) -> Counter[str]:
    """Kill a growth before random changes of files; the old images must be there, then all.

    Counts kills; "lost": the cache, opened again, is not whole or lacks tokens; "not rerunnable";
    "with leftovers": temporaries are there after the repetition.
    """
    context = forked()
    rng, path, intact = np.random.default_rng(seed), folder / "work/c.zarr", folder / "intact"
    extract(intact, FIRST)
    counts = Counter({"kills": 0, "lost": 0, "not rerunnable": 0, "with leftovers": 0})
    at, step = 0, 0
    while counts["kills"] < n_kills:
        step = step or _changes(context, path, intact)
        at = int(rng.integers(1, step + 1))
        _prepare(path, intact)
        child = context.Process(target=_grow, args=(path, at))
        child.start()
        child.join()
        counts["kills"] += child.exitcode == -9
        recover_grown(path)
        counts["lost"] += not _is_whole(path, FIRST)
        try:
            extract(path, BOTH)
        except CacheError as error:
            print(f"not rerunnable, killed before change {at}: {error}")
            counts["not rerunnable"] += 1
            continue
        counts["lost"] += not _is_whole(path, BOTH)
        counts["with leftovers"] += len([p for p in path.parent.iterdir() if "vitv1" in p.name])
    return counts


def _prepare(path: Path, intact: Path) -> None:
    shutil.rmtree(path.parent, ignore_errors=True)
    shutil.copytree(intact, path)


def _changes(context: Any, path: Path, intact: Path) -> int:
    """Changes of files that an undisturbed growth makes."""
    _prepare(path, intact)
    child = context.Process(target=_grow, args=(path, 0))
    child.start()
    child.join()
    return int((path.parent / "changes").read_text())


def _grow(path: Path, at: int) -> None:
    seen: list[str] = []
    die_before(path.parent, seen, at)
    extract(path, BOTH)
    n_changes = len(seen)
    (path.parent / "changes").write_text(str(n_changes))


def _is_whole(path: Path, ids: np.ndarray) -> bool:
    try:
        assert_holds(path, ids)
    except (AssertionError, CacheError) as error:
        print(error)
        return False
    return True
