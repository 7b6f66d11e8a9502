"""What this machine has to give: memory and cores, containers and jobs taken into account."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from pathlib import Path

import psutil

#: Where control groups, in which containers and cluster jobs run, say their limit and use.
_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
)

#: Bytes of a process that has loaded torch, with its CUDA libraries, and computed nothing yet.
PROCESS = 600 * 10**6


def free_memory() -> int:
    """Bytes that could be taken now without swapping."""
    free = int(psutil.virtual_memory().available)
    for limit, used in _CGROUPS:
        try:
            free = min(free, int(Path(limit).read_text()) - int(Path(used).read_text()))
        except (OSError, ValueError):
            continue
    return max(0, free)


def default_memory_limit() -> int:
    """Half of what is free, in bytes."""
    return free_memory() // 2


def return_memory() -> None:
    """Give memory that was freed back to the system, where the C library keeps it (glibc)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def n_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def is_in_memory(folder: Path) -> bool:
    """Whether files in a folder take memory rather than room on a disk."""
    systems = {Path(each.mountpoint): each.fstype for each in psutil.disk_partitions(all=True)}
    above = (folder.resolve(), *folder.resolve().parents)
    return next((systems[each] for each in above if each in systems), "") in ("tmpfs", "ramfs")
