"""Caches that another one replaces while a fit runs, as `vitv1 extract --replace` does it."""

from __future__ import annotations

import io
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import zarr
from numpy.typing import NDArray
from support.noise_runs import fit, local, write_noise_experiment
from zarr.storage import LocalStore

from cache import UserError
from stages.failures import StepsFailed
from stages.readouts import READOUTS

#: FEVE of conditions by their slugs, arrays of shape (n_neurons,).
Saved = dict[str, NDArray[np.float64]]

#: How the other cache comes: renamed into place; for a while only; not finished yet; by a link that
#: leads there; as a packed file.
WAYS = ("renamed", "for a while", "unfinished", "by a link", "packed")


def replaces(folder: Path, n: int, *, seed: int = 0) -> Counter[str]:
    """Replace the cache of a running fit at a random access to its files; later put it back.

    The other cache has the same layout and the same images, and other tokens. After each fit the
    same command is repeated.

    Parameters
    ----------
    folder : path
        Empty; for caches and runs.
    n : int
        How many fits.
    seed : int
        Of the moments.

    Returns
    -------
    Counter
        "fits"; "told", which failed for it; "wrong numbers", which saved other numbers than an
        undisturbed fit; "not rerun", after which the same command did not give these.
    """
    rng, caches = np.random.default_rng(seed), _Caches(folder)
    counts = Counter({"fits": 0, "told": 0, "wrong numbers": 0, "not rerun": 0})
    right: dict[bool, tuple[Saved, int]] = {}
    for number in range(n):
        way, output = WAYS[number % len(WAYS)], folder / f"runs/{number}"
        packed = way == "packed"
        if packed not in right:
            with caches.replaced(way) as accesses:
                _fit(caches, way, output)
            right[packed] = feve(output), accesses()
            shutil.rmtree(output)
        expected, n_accesses = right[packed]
        # Planning reads the cache first, and refuses another one.
        first, last = sorted(int(at) for at in rng.integers(4, n_accesses, 2))
        with caches.replaced(way, first, last), suppress(UserError):
            try:
                _fit(caches, way, output)
            except StepsFailed:
                counts["told"] += 1
        counts["fits"] += 1
        counts["wrong numbers"] += not _agree(feve(output), expected)
        _fit(caches, way, output)
        again = feve(output)
        counts["not rerun"] += len(again) < len(expected) or not _agree(again, expected)
    return counts


def _fit(caches: _Caches, way: str, output: Path) -> None:
    """Two conditions; their table is not printed."""
    with redirect_stdout(io.StringIO()):
        fit(caches.experiment, output, caches.path(way), blocks="[3, 4]")


def feve(run: Path) -> Saved:
    """What a run has saved."""
    found = sorted((run / READOUTS).glob("*/zarr.json"))
    return {
        path.parent.name: np.asarray(zarr.open_array(path.parent / "feve", mode="r")[:])
        for path in found
    }


def _agree(saved: Saved, expected: Saved) -> bool:
    return all(
        np.array_equal(values, expected[slug], equal_nan=True) for slug, values in saved.items()
    )


class _Caches:
    """One cache of an experiment, in each of the ways that it can be reached, and two others."""

    def __init__(self, folder: Path) -> None:
        self.experiment = write_noise_experiment(folder / "this")
        others = {
            "other": write_noise_experiment(folder / "other", seed=1),
            "begun": write_noise_experiment(folder / "begun", seed=1, stop_after=1),
        }
        self._kept = {name: local(path) for name, path in others.items()}
        self._folder, self._cache = folder, local(self.experiment)
        self._away = folder / "away.zarr"
        self._link(self._cache)
        self._pack("this")

    def path(self, way: str) -> str:
        """The cache as the experiment names it."""
        names = {"packed": "features.zarr.zip", "by a link": "link.zarr"}
        return str(self._folder / names[way] if way in names else self._cache)

    @contextmanager
    def replaced(self, way: str, first: int = 0, last: int = 0) -> Iterator[Any]:
        """Count accesses to the cache; another one comes at the first, or goes at the last."""
        count, read, there = 0, LocalStore.get, False
        roots = {self._folder, self._cache, Path(self.path(way))}

        async def get(store: LocalStore, *asked: Any, **named: Any) -> Any:
            nonlocal count, there
            # Not resolved: links are to be told from what they lead to.
            if Path(os.path.abspath(store.root)) in roots:  # noqa: PTH100
                count += 1
                if count == first or (count == last and way == "for a while"):
                    there = not there
                    self._swap(way, there=there)
            return await read(store, *asked, **named)

        try:
            with mock.patch.object(LocalStore, "get", get):
                yield lambda: count
        finally:
            if there:
                self._swap(way, there=False)

    def _swap(self, way: str, *, there: bool) -> None:
        """Have the other cache there, or this one again."""
        other = self._kept["begun" if way == "unfinished" else "other"]
        if way == "packed":
            self._pack("other" if there else "this")
        elif way == "by a link":
            self._link(other if there else self._cache)
        elif there:
            self._cache.rename(self._away)
            other.rename(self._cache)
        else:
            self._cache.rename(other)
            self._away.rename(self._cache)

    def _link(self, target: Path) -> None:
        new = self._folder / "new.zarr"
        new.symlink_to(target)
        new.replace(self._folder / "link.zarr")

    def _pack(self, name: str) -> None:
        new = self._folder / "new.zip"
        os.link(self._folder / name / "features.zarr.zip", new)
        new.replace(self._folder / "features.zarr.zip")
