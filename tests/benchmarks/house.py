"""The structure of the code in numbers, and what commands on a finished demo cost.

    python -m benchmarks.house [--demo FOLDER]

counts folders, circles, imports and lines; reads and hashings of inputs are held by
`tests/commands/test_inputs_once.py`. FOLDER is one in which `vitv1 run` of the demo has ended; by
default the demo is run once in a temporary folder, which takes minutes.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from support.imports import PACKAGES, ROOT, circles, faces, files, imports, resolved

DEMO = ROOT / "pipeline/experiments/demo.toml"

#: What stands on a lower floor, and so may be imported.
BELOW = {"cache": ("cache",), "stages": ("stages", "cache"), "pipeline": PACKAGES}


def structure() -> list[tuple[str, str, str]]:
    """Rows of the table: what, how much, and the target."""
    shown, edges, wrong, faces_used = faces(), defaultdict(set), 0, set()
    for found in imports(*PACKAGES):
        if not found.for_types:
            edges[found.by].add(resolved(found, shown))
        here, there = (module.split(".")[0] for module in (found.by, found.module))
        wrong += there not in BELOW[here]
        if here == "pipeline" and there == "stages":
            faces_used.add(found.module)
    paths = files(*PACKAGES)
    widest = max(len(list(folder.glob("*.py"))) for folder in {path.parent for path in paths})
    lines = sum(len(path.read_text("utf-8").splitlines()) for path in paths)
    return [
        ("files in the widest folder", str(widest), "<= 14"),
        ("import circles; imports against the layers", f"{len(circles(edges))}; {wrong}", "0; 0"),
        ("modules of stages that pipeline imports from", str(len(faces_used)), "<= 20"),
        # 21,846 when the restructuring ended; what was built since counts on top.
        ("lines of Python in the three packages", f"{lines:,}", "22,400 before the house"),
    ]


def cpu_seconds(folder: Path, *arguments: str) -> float:
    """CPU seconds of one command, the least of three runs."""
    least = float("inf")
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "pipeline", *arguments],
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        least = min(least, spent)
    return least


def commands(folder: Path) -> list[tuple[str, str, str]]:
    """Rows of the table: CPU seconds of commands on a finished demo."""
    demo = str(DEMO)
    return [
        (f"{name}, CPU seconds", f"{cpu_seconds(folder, *arguments):.2f}", f"<= {target}")
        for name, arguments, target in (
            ("`vitv1 --help`", ("--help",), 0.35),
            ("`vitv1 cache info` on the demo", ("cache", "info", "runs/demo/features.zarr"), 0.6),
            ("second `vitv1 run` of the demo", ("run", demo), 3),
            ("its `--dry-run`", ("run", demo, "--dry-run"), 2),
        )
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--demo", type=Path, help="folder in which the demo has been run")
    options = parser.parse_args()
    print("| what | measured | target |\n|---|---|---|")
    for row in structure():
        print(f"| {' | '.join(row)} |")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.demo or Path(temporary)
        command = [sys.executable, "-m", "pipeline", "run", str(DEMO), "--quiet"]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        for row in commands(folder):
            print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
