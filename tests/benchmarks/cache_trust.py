"""Trials of the feature cache in full: kills, faults, other settings, races, full disks.

    python -m benchmarks.cache_trust

runs every trial at full size (some minutes) and prints what it counted. The tests run the same
trials in small numbers.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from support.growth import growth_kills
from support.other_settings import refusals
from support.trials import (
    fault_trials,
    full_disk_trials,
    kill_trials,
    reader_trial,
    two_writer_trials,
)


def faults(folder: Path) -> Counter[str]:
    """A thousand random faults, with how many there were of each kind."""
    counts, kinds = fault_trials(folder, 1_000)
    counts.update({f"({kind})": number for kind, number in kinds.items()})
    return counts


TRIALS: dict[str, Callable[[Path], Counter[str]]] = {
    "killed with SIGKILL at random moments": lambda folder: kill_trials(folder, 100),
    "killed while images are added": lambda folder: growth_kills(folder, 100),
    "random faults in a finished store": faults,
    "settings changed one at a time": refusals,
    "two writers at once": lambda folder: two_writer_trials(folder, 20),
    "a reader in a loop during an extraction": reader_trial,
    "out of disk (a small tmpfs)": lambda folder: full_disk_trials(folder, 10),
}


def main() -> None:
    """Run every trial and print its counts."""
    for name, trial in TRIALS.items():
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            try:
                counts = ", ".join(
                    f"{number:,} {what}" for what, number in trial(Path(folder)).items()
                )
            except PermissionError as why:
                counts = f"not run: {why}"
        print(f"{name} ({time.monotonic() - began:.0f} s): {counts}", flush=True)


if __name__ == "__main__":
    main()
