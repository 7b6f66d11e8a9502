"""Faults in unfinished caches before they are resumed: written again, or named; never silent."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.random import Generator
from support.faults import SHAPE, content, damage, make_store
from support.unfinished_faults import claim, forge, planned, swap, swap_chunks

from cache import CacheError

_TOKENS = [f"blocks/{block:02d}/{kind}" for block in range(2) for kind in SHAPE.kinds()]


def unfinished_trials(folder: Path, n_faults: int, *, seed: int = 0) -> Counter[str]:
    """Damage a cache of which two of three shards are done, and write what is missing.

    Counts faults; those that were named, and then nothing was finished; those that were mended: the
    cache is byte for byte the undamaged one; and those that are "silent": it is another one.
    """
    whole = content(make_store(folder / "whole.zarr"))
    other = make_store(folder / "other.zarr", settings={"backbone": {"n_blocks": 2}, "dtype": "x"})
    begun, store = make_store(folder / "begun.zarr", stop_after=2), folder / "c.zarr"
    rng = np.random.default_rng(seed)
    counts = Counter(dict.fromkeys(("faults", "named", "mended", "silent"), 0))
    for _ in range(n_faults):
        shutil.copytree(begun, store)
        done = _damage(store, other, rng)
        counts["faults"] += 1
        try:
            make_store(store)
        except CacheError:
            counts["named"] += 1
        else:
            same = content(store) == whole
            counts["mended" if same else "silent"] += 1
            if not same:
                print(f"silent: {done}", flush=True)
        shutil.rmtree(store)
    return counts


def _damage(store: Path, other: Path, rng: Generator) -> str:
    """Do something random to the shards that are done; what was done."""
    chosen = rng.choice(_TOKENS)
    array = next(array for array in planned() if array.path == chosen)
    shard = int(rng.integers(2))
    path = store / array.file_path(shard)
    kind = rng.integers(8)
    if kind == 0:
        swap(path, store / array.file_path(1 - shard))
        return f"shards of {array.path} swapped"
    if kind == 1:
        block, _, rest = array.file_path(shard).removeprefix("blocks/").partition("/")
        swap(path, store / f"blocks/{1 - int(block):02d}/{rest}")
        return f"{array.path}, shard {shard} of both blocks swapped"
    if kind == 2:
        swap_chunks(store, shard)
        return f"chunks of shard {shard} swapped"
    if kind == 3:
        forge(store, array.path, shard)
        return f"{array.path}, shard {shard} forged"
    if kind == 4:
        claim(store)
        return "progress claimed"
    if kind == 5:
        shutil.copyfile(other / array.file_path(1 - shard), path)
        return f"{array.path}, shard {shard} of another cache"
    return str(damage(store, rng))
