"""Where to compute."""

from __future__ import annotations

import torch

from cache.errors import UserError


def resolve_device(name: str) -> str:
    """Name of the device to use; "auto" is a CUDA device where there is one, the CPU elsewhere.

    Raises
    ------
    UserError
        A device that this machine does not have, or no device at all.
    """
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
