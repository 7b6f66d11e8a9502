"""Attacks in full, as one table of what was measured against what is wanted.

    python -m benchmarks.trust [ROW[=SIZE] ...] [--seed N] [--demo FOLDER]

Without rows all of them, at full size (an hour or so). The tests run each of them in small numbers.
Ends with 1 where a row misses its target.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Parameters
    ----------
    what : str
        What is done.
    size : int
        How often.
    trials : callable
        Takes a folder, the size and a seed; returns counts.
    bad : sequence of str
        Counts of which there may be none.
    """

    what: str
    size: int
    trials: Callable[[Path, int, int], Counter[str]]
    bad: tuple[str, ...]


def _of(module: str, name: str) -> Callable[[Path, int, int], Counter[str]]:
    """Trials by name; their modules load torch and all else when they are run."""
    return lambda folder, n, seed: _function(module, name)(folder, n, seed=seed)


def _function(module: str, name: str) -> Callable[..., Any]:
    found: Callable[..., Any] = getattr(importlib.import_module(f"benchmarks.trust.{module}"), name)
    return found


ROWS = {
    "results": Row(
        "faults in all result files, then a run and reading",
        400,
        _of("result_faults", "result_fault_trials"),
        ("silent", "not rerunnable"),
    ),
    "unfinished": Row(
        "faults in unfinished caches, then a resume",
        120,
        _of("unfinished_caches", "unfinished_trials"),
        ("silent",),
    ),
    "checkpoints": Row(
        "faulty checkpoints, then training goes on",
        60,
        _of("checkpoint_faults", "checkpoint_trials"),
        ("silent",),
    ),
    "pairs": Row(
        "pairs of simultaneous runs on one output",
        20,
        _of("two_runs", "two_run_trials"),
        ("not rerunnable", "unreadable"),
    ),
    "replaced": Row(
        "caches replaced under a running fit",
        30,
        _of("replaced_caches", "replaces"),
        ("wrong numbers", "not rerun"),
    ),
    "kills": Row(
        "kills over all commands, then the command again",
        200,
        _of("kills", "kill_trials"),
        ("lost", "silent", "not rerunnable"),
    ),
    "hostile": Row(
        "hostile servers, archives and experiment files",
        60,
        _of("hostile_inputs", "hostile_trials"),
        ("over 500 MB", "over 60 s silent", "code run", "secret shown"),
    ),
}

#: CPU seconds that the check of what is up to date may take on the demo.
MOST_SECONDS = 0.5


def main() -> int:
    """Print a line for each row, and say whether all targets were met."""
    parser = argparse.ArgumentParser(prog="benchmarks.trust")
    parser.add_argument("rows", nargs="*", metavar="ROW[=SIZE]", help=f"{', '.join(ROWS)}, cost")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--demo", type=Path, help="a finished run of the demo, for the cost")
    given = parser.parse_args()
    rows = [text.partition("=") for text in given.rows or [*ROWS, "cost"]]
    print(f"{'':<58} | {'measured':<50} | target", flush=True)
    met = True
    for name, _, size in rows:
        began = time.monotonic()
        run = partial(cost, given.demo) if name == "cost" else partial(counts, name, size)
        with tempfile.TemporaryDirectory() as folder:
            try:
                fine, what, measured, target = run(Path(folder), given.seed)
            except Exception:
                traceback.print_exc()
                fine, what, measured, target = False, name, "did not run to its end", "-"
        met &= fine
        took = f"{time.monotonic() - began:.0f} s"
        print(f"{what:<58} | {measured:<50} | {target}  ({took})", flush=True)
    return 0 if met else 1


def counts(name: str, size: str, folder: Path, seed: int) -> tuple[bool, str, str, str]:
    """Whether a row's target is met, its label, what was counted, and the target."""
    row = ROWS[name]
    number = int(size) if size else row.size
    found = row.trials(folder, number, seed)
    told = ", ".join(f"{count:,} {what}" for what, count in found.items())
    return (
        not sum(found[bad] for bad in row.bad),
        f"{number} {row.what}",
        told,
        "0 " + (", 0 ".join(row.bad)),
    )


def cost(demo: Path | None, folder: Path, seed: int) -> tuple[bool, str, str, str]:
    """The same of the CPU seconds that hashing the results takes in a plan of the demo."""
    seconds, n_bytes = _function("plan_cost", "checking_cost")(demo, folder)
    told = f"{seconds:.2f} s for {n_bytes / 1e6:.1f} MB"
    label = "CPU of checking what is up to date on the demo"
    return seconds <= MOST_SECONDS, label, told, f"<= {MOST_SECONDS} s"


if __name__ == "__main__":
    sys.exit(main())
