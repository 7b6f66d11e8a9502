"""Memory, cores and devices of this machine; limits of containers and cluster jobs are heeded."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from cache import UserError

#: Bytes of a process that has loaded torch, with its CUDA libraries, and computed nothing yet.
PROCESS = 600 * 10**6

#: Bytes that timm adds to a process.
TIMM = 200 * 10**6

#: Files in which control groups, of containers and cluster jobs, say their limit and their use.
_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
)


def default_memory_limit() -> int:
    """Half of the bytes that could be taken now without swapping."""
    free = [int(psutil.virtual_memory().available)]
    for limit, used in _CGROUPS:
        # There is no such file, or it says "max".
        with suppress(OSError, ValueError):
            free.append(int(Path(limit).read_text()) - int(Path(used).read_text()))
    return max(0, min(free)) // 2


def resident_memory() -> int:
    """Bytes of memory that this process uses."""
    return int(psutil.Process().memory_info().rss)


def shared_limit(memory_limit: int | None, workers: int) -> int | None:
    """Bytes of a limit that each worker may use, this process's own memory set aside."""
    if memory_limit is None or workers <= 1:
        return memory_limit
    return (memory_limit - resident_memory()) // workers


def return_memory() -> None:
    """Give memory that was freed back to the system, where the C library keeps it (glibc)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def is_in_memory(folder: Path) -> bool:
    """Whether files in a folder take memory rather than room on a disk."""
    systems = {Path(each.mountpoint): each.fstype for each in psutil.disk_partitions(all=True)}
    above = (folder.resolve(), *folder.resolve().parents)
    return next((systems[each] for each in above if each in systems), "") in ("tmpfs", "ramfs")


def n_cores() -> int:
    """Cores that this process may use."""
    import joblib

    return int(joblib.cpu_count())


@contextmanager
def cpu_threads(number: int) -> Iterator[None]:
    """Have torch and numpy use so many CPU threads inside; sums of others are rounded otherwise."""
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        with threadpool_limits(number):
            yield
    finally:
        torch.set_num_threads(before)


def resolve_device(name: str) -> str:
    """Name of the device to use; "auto" is a CUDA device where there is one, the CPU elsewhere.

    The first where several are named, separated by commas.

    Raises
    ------
    UserError
        A device that this machine does not have, or no device at all.
    """
    import torch

    name = name.split(",")[0].strip()
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f'run.device = "{name}" cannot be used here ({str(error).splitlines()[0]}): choose '
            '"auto" or "cpu"'
        ) from None
    return name


def resolve_devices(names: str) -> list[str]:
    """The devices that a list such as "cuda:0,cuda:1" names, each as by `resolve_device`."""
    return [resolve_device(name.strip()) for name in names.split(",")]
