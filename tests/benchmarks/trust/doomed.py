"""Commands in processes of their own that die before their n-th change of a file, or at random."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from support.forked import forked

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_CHANGES = {
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.mkdir",
    "os.truncate",
    "os.symlink",
    "os.link",
}


class Doomed:
    """Runs commands whose files lie below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._context = forked()

    def run(self, arguments: Sequence[str], *, at: int | None = None) -> tuple[int, str]:
        """Exit code, negative where it was killed before its change number `at`; what it said."""
        process = self._start(arguments, at)
        process.join()
        return int(process.exitcode or 0), (self.folder / "said").read_text(errors="replace")

    def killed_after(self, arguments: Sequence[str], seconds: float) -> bool:
        """Whether the command was killed after so many seconds, not being done by then."""
        process = self._start(arguments, None)
        while not (self.folder / "begun").exists() and process.is_alive():
            time.sleep(0.001)
        time.sleep(seconds)
        process.kill()
        process.join()
        return process.exitcode != 0

    def changes(self, arguments: Sequence[str]) -> list[str]:
        """The changes of files that a command makes, in order, such as "os.rename a.json"."""
        code, said = self.run(arguments, at=0)
        if code:
            raise AssertionError(f"{arguments}: {said}")
        found: list[str] = json.loads((self.folder / "changes").read_text())
        return found

    def _start(self, arguments: Sequence[str], at: int | None) -> ForkServerProcess:
        (self.folder / "begun").unlink(missing_ok=True)
        process: ForkServerProcess = self._context.Process(
            target=_run, args=(self.folder, list(arguments), at)
        )
        process.start()
        return process


def _run(folder: Path, arguments: list[str], at: int | None) -> None:
    import torch

    from benchmarks.trust.small_run import few_figures
    from pipeline.cli.main import main

    torch.set_num_threads(1)
    sys.stdout = sys.stderr = (folder / "said").open("w")
    (folder / "begun").touch()
    seen: list[str] = []
    if at is not None:
        die_before(folder / "work", seen, at)
    with few_figures():
        code = main(arguments)
    if at == 0:
        listed = list(seen)
        (folder / "changes").write_text(json.dumps(listed))
    sys.stdout.flush()
    os._exit(code)


def die_before(folder: Path, seen: list[str], at: int) -> None:
    """Note every change below a folder that Python makes, and die before change number `at`."""
    inside = f"{folder}/"

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if not isinstance(path, str | bytes) or not flags & _WRITES:
                return
        elif event in _CHANGES:
            path = arguments[0]
        else:
            return
        path = os.fsdecode(path)
        # What rmtree deletes it names by its folder's handle.
        if path.startswith(inside) or (event in ("os.remove", "os.rmdir") and "/" not in path):
            seen.append(f"{event} {path.removeprefix(inside)}")
            if len(seen) == at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def kind_of(change: str) -> str:
    """A change without what tells one condition, array, shard or process from another."""
    event, _, path = change.partition(" ")
    path = re.sub(r"results/(\w+)\.zarr/([^/]+)/\w+", r"results/\1.zarr/\2/ARRAY", path)
    path = re.sub(r"[^/]*mouse-[^/]*", "CONDITION", path)
    path = re.sub(r"(?<![a-z0-9])[0-9a-f]{8,}|\d+", "N", path)
    path = re.sub(r"CONDITION/[a-z]\w+(/.*)?", "CONDITION/ARRAY", path)
    path = re.sub(r"(patches|cls|registers)\b", "ARRAY", path)
    return f"{event} {path}"
