"""The run of an earlier version that is kept among the tests, and commands in its folder."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

DATA = Path(__file__).parents[1] / "data"


def earlier_run(folder: Path) -> Path:
    """A copy of the run of vitv1 0.1, with its experiment file and its recording."""
    with tarfile.open(DATA / "run-0.1.tar.xz") as packed:
        packed.extractall(folder, filter="data")
    return folder / "run-0.1"


def python(folder: Path, *arguments: str) -> str:
    """What Python prints, in a fresh process in a folder, with this code."""
    path = os.pathsep.join(p for p in sys.path if p)
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
