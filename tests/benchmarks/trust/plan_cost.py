"""CPU time that a plan of the demo takes to hash the results: with their checks, and without."""

from __future__ import annotations

import json
import time
from pathlib import Path
from unittest import mock

from support.runs import plan_of

from benchmarks.trust.small_run import vitv1
from stages.readouts.manifest import MANIFESTS

DEMO = Path(__file__).parents[3] / "pipeline/experiments/demo.toml"
REPEATS = 5


def checking_cost(demo: Path | None, folder: Path, experiment: Path = DEMO) -> tuple[float, int]:
    """CPU seconds, and the bytes that were hashed.

    Parameters
    ----------
    demo : path, optional
        A finished run of it; else it is run in `folder` first, which takes minutes.
    """
    output = demo or folder / "demo"
    setting = f"run.output={output}"
    if demo is None:
        code, said = vitv1("run", str(experiment), "--quiet", "--set", setting)
        if code:
            raise AssertionError(said)

    def seconds() -> float:
        began = time.process_time()
        plan_of(experiment, setting)
        return time.process_time() - began

    checked = min(seconds() for _ in range(REPEATS))
    with (
        mock.patch("pipeline.plan.make.damage", return_value=None),
        mock.patch("pipeline.plan.make.saved_damage", return_value=None),
        mock.patch("pipeline.results.tables.require_intact"),
        mock.patch("pipeline.results.provenance.require_intact"),
    ):
        unchecked = min(seconds() for _ in range(REPEATS))
    files = [json.loads(p.read_bytes())["files"] for p in (output / MANIFESTS).glob("*.json")]
    n_bytes = sum((output / name).stat().st_size for each in files for name in each)
    return checked - unchecked, n_bytes
