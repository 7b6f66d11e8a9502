"""Where to compute."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from cache.errors import UserError


def resolve_device(name: str) -> str:
    """Name of the device to use; "auto" is a CUDA device where there is one, the CPU elsewhere.

    The first where several are named, separated by commas.

    Raises
    ------
    UserError
        A device that this machine does not have, or no device at all.
    """
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
    """The devices that a comma-separated list names, such as "cuda:0,cuda:1".

    Raises
    ------
    UserError
        As `resolve_device`.
    """
    return [resolve_device(name.strip()) for name in names.split(",")]


@contextmanager
def cpu_threads(number: int) -> Iterator[None]:
    """Compute on so many CPU threads inside."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
