"""A record of what a process makes durable: files and folders synced, and names given to them."""

from __future__ import annotations

import fcntl
import os
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


class Disk:
    """Events, numbered in order: "sync" of a file and "named" of one, which goes by its inode."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._number = 0
        self._events: defaultdict[tuple[str, int], list[int]] = defaultdict(list)
        # macOS has a call of its own; what is synced is the same.
        patch.delattr(fcntl, "F_FULLFSYNC", raising=False)
        patch.setattr(os, "fsync", lambda handle: self._note("sync", os.fstat(handle).st_ino))
        for name in ("rename", "replace", "mkdir"):
            patch.setattr(os, name, self._naming(getattr(os, name)))

    def _note(self, kind: str, inode: int) -> None:
        self._events[kind, inode].append(self._number)
        self._number += 1

    def _naming(self, call: Callable[..., None]) -> Callable[..., None]:
        def named(*places: Any, **options: Any) -> None:
            call(*places, **options)
            path = Path(places[0] if call.__name__ == "mkdir" else places[1])
            self._note("named", path.stat().st_ino)

        return named

    def _last(self, kind: str, inode: int, before: int) -> int:
        numbers = self._events[kind, inode]
        earlier = bisect_left(numbers, before)
        return numbers[earlier - 1] if earlier else -1

    def synced(self, path: Path) -> int:
        """When a file was synced last; -1 if it never was."""
        return self._last("sync", path.stat().st_ino, self._number)

    def lacks(self, path: Path, *, below: Path, before: int | None = None) -> str | None:
        """Why a file would be lost or torn by a power cut at some event; None if it would not."""
        before = self._number if before is None else before
        written = self._last("sync", path.stat().st_ino, before)
        if written < 0:
            return f"{path} is not synced"
        while path != below:
            given = self._last("named", path.stat().st_ino, before)
            since = max(given, written) if path.is_file() else given
            if self._last("sync", path.parent.stat().st_ino, before) < since:
                return f"the name of {path} is not synced"
            path = path.parent
        return None
