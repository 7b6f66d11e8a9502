"""Pairs of simultaneous runs that write to one folder."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pandas as pd
from support.forked import forked
from support.tiny import write_experiment

from pipeline.cli.main import main
from pipeline.experiment import load_experiment
from stages.conditions import Condition
from stages.readouts import load_readouts

#: What the second run does otherwise than the first.
OTHERWISE: dict[str, list[str]] = {
    "the same": [],
    "another seed": ["--set", "run.seed=1"],
    "other settings": ["--set", "readout.adamw.max_epochs=2"],
    "other blocks": ["--set", "readout.blocks=[1]"],
}


def two_run_trials(folder: Path, n_pairs: int, *, seed: int = 0) -> Counter[str]:
    """Start pairs of `vitv1 run` on one output folder; then run once more, and read.

    The second starts with the first or some moments later, with the same or with other settings.
    In every fourth pair the lock files are deleted once the first holds them, in every other fourth
    the first is killed.

    Parameters
    ----------
    folder : path
        Empty; for the experiments.
    n_pairs : int
        How many.
    seed : int
        Of the moments.

    Returns
    -------
    Counter
        "pairs"; "refused", in which one run was told who writes; "killed"; "not rerunnable", after
        which the command did not end with 0; "unreadable", whose tables or readouts were not read,
        or not those of an undisturbed run.
    """
    rng = random.Random(seed)
    whole = write_experiment(_made(folder / "whole"))
    began = time.monotonic()
    if _alone(whole) != 0:
        raise AssertionError("a run that nothing disturbed failed")
    duration = time.monotonic() - began
    names = ("pairs", "refused", "killed", "not rerunnable", "unreadable")
    counts = Counter(dict.fromkeys(names, 0))
    for number in range(n_pairs):
        path = write_experiment(_made(folder / str(number)))
        otherwise = list(OTHERWISE.values())[(number + number // 4) % len(OTHERWISE)]
        said = [path.with_name(f"said{each}.txt") for each in (0, 1)]
        runs = _start([(path, said[0], []), (path, said[1], otherwise)])
        runs[0][1].set()
        if number % 4:
            time.sleep(rng.uniform(0, duration))
        if number % 4 == 2:
            for lock in path.parent.glob("runs/**/*.lock"):
                lock.unlink(missing_ok=True)
        runs[1][1].set()
        if number % 4 == 3:
            time.sleep(rng.uniform(0, duration))
            if runs[0][0].is_alive():
                os.kill(runs[0][0].pid or 0, signal.SIGKILL)
                counts["killed"] += 1
        for process, _ in runs:
            process.join()
        counts["pairs"] += 1
        counts["refused"] += any("is being written by" in each.read_text() for each in said)
        counts["not rerunnable"] += _alone(path, *_seeds(path)) != 0
        counts["unreadable"] += not _same(whole, path)
    return counts


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _start(
    commands: Sequence[tuple[Path, Path, Sequence[str]]],
) -> list[tuple[ForkServerProcess, Any]]:
    """Processes that each run an experiment once they are told to, with what tells them."""
    context = forked()
    started = []
    for path, said, options in commands:
        go, ready = context.Event(), context.Event()
        process = context.Process(target=_run, args=(path, said, options, ready, go))
        process.start()
        ready.wait()
        started.append((process, go))
    return started


def _run(path: Path, said: Path, options: Sequence[str], ready: Any, go: Any) -> None:
    with said.open("a") as file:
        sys.stderr = sys.stdout = file
        ready.set()
        go.wait()
        code = main(["run", str(path), "--quiet", *options])
    os._exit(code)


def _alone(path: Path, *options: str) -> int | None:
    """The exit code of a run that nothing disturbs."""
    ((process, go),) = _start([(path, path.with_name("said.txt"), options)])
    go.set()
    process.join()
    return process.exitcode


def _seeds(path: Path) -> list[str]:
    """The second run may have been the one that went through: then its seed stays in the tables."""
    summary = load_experiment(path).output / "results/summary.csv"
    found = set(pd.read_csv(summary)["seed"]) if summary.exists() else set()
    return ["--set", "run.seed=[0, 1]"] if 1 in found else []


def _same(whole: Path, path: Path) -> bool:
    """Whether all conditions are there, with the numbers of an undisturbed run."""
    try:
        ours, theirs = (
            pd.read_parquet(load_experiment(each).output / "results/neurons.parquet")
            for each in (path, whole)
        )
        for row in ours.drop_duplicates(["tokens", "block", "seed"]).to_dict("records"):
            load_readouts(path.parent / "runs", **Condition.from_row(row).identity())
        first = ours[ours["seed"] == 0].reset_index(drop=True)
        pd.testing.assert_frame_equal(first, theirs)
    except Exception as error:
        print(f"{path}: {type(error).__name__}: {error}", file=sys.stderr)
        return False
    return True
