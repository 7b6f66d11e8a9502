"""Faults in every file of a run but its cache: healed by the next run, or named; never silent."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.random import Generator
from support.faults import damage
from support.runs import plan_of

from benchmarks.trust.small_run import content_of, read_all, vitv1, write_small

#: Folders of which a fault may take all.
FOLDERS = (
    "results", "results/readouts.zarr", "results/predictions.zarr", "results/manifests", "tuned",
    "figures", "results/readouts.zarr/*", "results/predictions.zarr/*", "results/readouts.zarr/*/*",
)  # fmt: skip


def result_fault_trials(folder: Path, n_faults: int, *, seed: int = 0) -> Counter[str]:
    """Do one fault at a time to a finished run; read everything, and run again.

    Counts faults; those after which a reader refused; those that the run's plan named; those that
    are "silent": something was read that had not been written, or the run ended with 0 and a file
    is not what it was; and those after which the run did not end with 0.
    """
    (folder / "other").mkdir()
    path, other = write_small(folder), write_small(folder / "other", n_train=26)
    for each in (other, path):
        code, said = vitv1("run", str(each), "--quiet")
        if code:
            raise AssertionError(said)
    run, kept, rng = folder / "runs", folder / "kept", np.random.default_rng(seed)
    conditions = [step.condition for step in plan_of(path).steps if step.condition]
    shutil.copytree(run, kept)
    whole, read = content_of(run), read_all(run, conditions)
    names = ("faults", "refused", "named", "silent", "not rerunnable")
    counts = Counter(dict.fromkeys(names, 0))
    for _ in range(n_faults):
        done = _damage(run, folder / "other/runs", rng)
        counts["faults"] += 1
        after = read_all(run, conditions)
        counts["refused"] += None in after.values()
        reasons = [s.reason for s in plan_of(path).steps if s.state != "up to date"]
        counts["named"] += bool(reasons)
        code, said = vitv1("run", str(path), "--quiet")
        wrong = [name for name, value in after.items() if value not in (None, read[name])]
        now = content_of(run) if code == 0 else whole
        left = [name for name in whole if now.get(name) != whole[name]]
        if wrong or left:
            counts["silent"] += 1
            print(f"silent: {done}: read {wrong}, left {left}", flush=True)
        if code:
            counts["not rerunnable"] += 1
            print(f"not rerunnable: {done}: {said[-500:]}", flush=True)
        shutil.rmtree(run)
        shutil.copytree(kept, run)
    return counts


def _damage(run: Path, other: Path, rng: Generator) -> str:
    """Do something random to what a run made; what was done."""
    cache = run / "features.zarr"
    aside = run.with_name("aside.zarr")
    cache.rename(aside)
    try:
        kind = rng.integers(10)
        files = [p for p in sorted(run.rglob("*")) if p.is_file() and p.suffix != ".lock"]
        if kind < 5:
            return str(damage(run, rng))
        path = files[rng.integers(len(files))]
        name = path.relative_to(run)
        if kind == 5:
            path.write_bytes(b"")
            return f"{name} emptied"
        if kind == 6:
            path.write_bytes(bytes(path.stat().st_size))
            return f"{name} zeros"
        if kind == 7 and (other / name).is_file():
            shutil.copyfile(other / name, path)
            return f"{name} of another run"
        folders = [p for pattern in FOLDERS for p in sorted(run.glob(pattern)) if p.is_dir()]
        place = folders[rng.integers(len(folders))]
        name = place.relative_to(run)
        shutil.rmtree(place)
        # All results of another run are no damage: they are whole, and the run makes its own again.
        if kind == 9 and (other / name).is_dir() and place.name != "results":
            shutil.copytree(other / name, place)
            return f"folder {name} of another run"
        return f"folder {name} gone"
    finally:
        aside.rename(cache)
