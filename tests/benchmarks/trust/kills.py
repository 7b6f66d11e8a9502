"""Kills of every command, before each kind of change of a file and at random moments."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator
from support.faults import content

from benchmarks.trust.doomed import Doomed, kind_of
from benchmarks.trust.small_run import content_of, write_small
from cache import CacheError, open_cache

#: One kill of so many is at a random moment, the others are before a change of a file.
RANDOM = 5


@dataclass(frozen=True)
class Command:
    """A command line, and what it starts from.

    Parameters
    ----------
    arguments : list of str
        EXPERIMENT and WORK stand for the experiment's file and the folder of everything.
    prepared : list of list of str
        Commands that are run before.
    change : callable, optional
        What is done to the folder after those.
    """

    arguments: list[str]
    prepared: tuple[list[str], ...] = ()
    change: Callable[[Path], None] | None = None


def _damage(work: Path) -> None:
    (work / "runs/features.zarr/blocks/01/cls/c/0/0").unlink()


def _without_figures(work: Path) -> None:
    shutil.rmtree(work / "runs/figures")
    (work / "runs/report.html").unlink()


_EXTRACT, _FIT = ["extract", "EXPERIMENT"], ["fit", "EXPERIMENT"]
_OTHER = ["--set", "readout.adamw.max_epochs=3"]

COMMANDS = {
    "run": Command(["run", "EXPERIMENT"]),
    "run with other settings": Command(["run", "EXPERIMENT", *_OTHER], (["run", "EXPERIMENT"],)),
    "extract": Command(_EXTRACT),
    "extract --replace": Command(
        [*_EXTRACT, "--replace", "--set", "cache.dtype=float32"], (_EXTRACT,)
    ),
    "fit": Command(_FIT, (_EXTRACT,)),
    "finetune": Command(["finetune", "EXPERIMENT"], (_EXTRACT, _FIT)),
    "baseline": Command(["baseline", "EXPERIMENT"]),
    "report": Command(["report", "EXPERIMENT"], (_EXTRACT, _FIT), _without_figures),
    "cache pull": Command(["cache", "pull", "WORK/runs/features.zarr", "WORK/b.zarr"], (_EXTRACT,)),
    "cache pack": Command(
        ["cache", "pack", "WORK/runs/features.zarr", "WORK/b.zarr.zip"], (_EXTRACT,)
    ),
    "cache repair": Command(["cache", "repair", "EXPERIMENT"], (_EXTRACT,), _damage),
}


def kill_trials(
    folder: Path, n_kills: int, *, seed: int = 0, commands: Sequence[str] = tuple(COMMANDS)
) -> Counter[str]:
    """Kill commands; repeat each, and compare with what it gives undisturbed.

    Counts kills; those that were aimed at the moment before a change; kinds of changes; "lost":
    a condition, a shard or a copied file that was done before the kill was made again; "not
    rerunnable": the command, repeated, does not end with 0; "silent": it ended with another result;
    and those "with leftovers": temporaries are there afterwards.
    """
    rng, doomed = np.random.default_rng(seed), Doomed(folder)
    names = (
        "kills", "aimed", "kinds of changes", "lost", "silent", "not rerunnable", "with leftovers"
    )  # fmt: skip
    counts = Counter(dict.fromkeys(names, 0))
    trials = [_Trial(name, folder, doomed) for name in commands]
    counts["kinds of changes"] = sum(len(trial.kinds) for trial in trials)
    # One kill of each command, the others by how much there is to aim at.
    weights = np.array([len(trial.kinds) for trial in trials])
    shares = rng.multinomial(n_kills - len(trials), weights / weights.sum())
    for trial, share in zip(trials, 1 + shares, strict=True):
        for at in trial.moments(int(share), rng):
            aimed = (counts["kills"] + 1) % RANDOM != 0
            counts.update(trial.kill(at if aimed else None, rng) | {"aimed": int(aimed)})
    return counts


class _Trial:
    """One command: what it starts from, and what it gives, are made at once."""

    def __init__(self, name: str, folder: Path, doomed: Doomed) -> None:
        self.name, self.command, self.doomed = name, COMMANDS[name], doomed
        self.work, self.before = folder / "work", folder / f"before {name}"
        self.arguments = self._filled(self.command.arguments)
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir()
        write_small(self.work, finetune="finetune" in self.name or "baseline" in self.name
                    or self.name == "run")  # fmt: skip
        for arguments in self.command.prepared:
            code, said = self.doomed.run(self._filled(arguments))
            if code:
                raise AssertionError(said)
        if self.command.change is not None:
            self.command.change(self.work)
        shutil.copytree(self.work, self.before)
        began = time.monotonic()
        self.changes = self.doomed.changes(self.arguments)
        self.duration = time.monotonic() - began
        self.kinds = sorted({kind_of(change) for change in self.changes})
        self.expected = self._result()

    def moments(self, number: int, rng: Generator) -> list[int]:
        """Numbers of changes to die before: of each kind one, as far as they go, then of others."""
        kinds = [kind_of(change) for change in self.changes]
        order = rng.permutation(len(kinds))
        first = {kinds[i]: i for i in reversed(order)}
        chosen = [*rng.permutation(list(first.values())), *order]
        return [int(i) + 1 for i in chosen[:number]]

    def kill(self, at: int | None, rng: Generator) -> Counter[str]:
        """Kill before a change, or at a random moment; repeat the command, and judge."""
        shutil.rmtree(self.work)
        shutil.copytree(self.before, self.work)
        if at is None:
            self.doomed.killed_after(self.arguments, rng.uniform(0, self.duration))
        else:
            self.doomed.run(self.arguments, at=at)
        where = "at random" if at is None else f"before {self.changes[at - 1]}"
        done = self._done()
        code, said = self.doomed.run(self.arguments)
        found = Counter({"kills": 1})
        if code:
            found["not rerunnable"] += 1
            print(f"not rerunnable: {self.name}, killed {where}: {said[-500:]}", flush=True)
            return found
        now = self._done()
        lost = [name for name, mark in done.items() if now.get(name) != mark]
        result = self._result()
        found["with leftovers"] = any(
            path.name.startswith(".") or "vitv1-" in path.name for path in self.work.rglob("*")
        )
        wrong = [n for n in {*result, *self.expected} if result.get(n) != self.expected.get(n)]
        for what, names in (("lost", lost), ("silent", wrong)):
            if names:
                found[what] += 1
                print(f"{what}: {self.name}, killed {where}: {sorted(names)[:5]}", flush=True)
        return found

    def _filled(self, arguments: list[str]) -> list[str]:
        filled = {"EXPERIMENT": str(self.work / "mouse.toml")}
        return [filled.get(text, text.replace("WORK", str(self.work))) for text in arguments] + [
            "--quiet"
        ]

    def _result(self) -> dict[str, bytes]:
        """All that the command is to give: results, and caches."""
        found = content_of(self.work / "runs") if (self.work / "runs").is_dir() else {}
        for cache in [*self.work.glob("runs/features.zarr"), *self.work.glob("b.zarr")]:
            found |= {f"{cache.name}/{name}": held for name, held in content(cache).items()}
        for name in ("features.zarr/zarr.json", "provenance.json"):
            # When, and on what machine.
            if name in found:
                found[name] = _timeless(found[name])
        if (packed := self.work / "b.zarr.zip").exists():
            found[packed.name] = packed.read_bytes()
        return found

    def _done(self) -> dict[str, int]:
        """Inodes of what is done and durable: conditions, shards, and files that were copied."""
        run = self.work / "runs"
        found = {}
        for manifest in (run / "results/manifests").glob("*.json"):
            group = run / "results/readouts.zarr" / manifest.stem / "zarr.json"
            if group.exists() and self.name != "run with other settings":
                found[f"condition {manifest.stem}"] = group.stat().st_ino
        if "extract" in self.name or self.name == "run":
            found |= _shards(run / "features.zarr", as_float32="--replace" in self.name)
        for place in ("b.zarr", "b.zarr.vitv1-partial"):
            for path in (self.work / place).glob("blocks/*/*/c/**/*"):
                if path.is_file() and not path.name.endswith("-part"):
                    found[str(path.relative_to(self.work / place))] = path.stat().st_ino
        return found


def _shards(store: Path, *, as_float32: bool) -> dict[str, int]:
    """Inodes of the files of shards that a cache says are done."""
    try:
        cache = open_cache(str(store))
    except CacheError:
        return {}
    if as_float32 and cache.settings["dtype"] != "float32":
        return {}
    return {
        f"shard {path.relative_to(store)}": path.stat().st_ino
        for number in np.flatnonzero(cache.shards_done)
        for path in store.glob(f"blocks/*/*/c/{number}/**/*")
        if path.is_file()
    }


def _timeless(document: bytes) -> bytes:
    content = json.loads(document)
    attributes = content.get("attributes", content)
    for name in ("provenance", "self_sha256"):
        attributes.pop(name, None)
    return json.dumps(content).encode()
