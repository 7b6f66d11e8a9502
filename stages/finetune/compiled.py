"""Compiled forward passes, which fall back to the plain ones where torch cannot compile."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import nn


def compiled(module: nn.Module, *, what: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """A module's forward pass of one tensor, compiled at its first call.

    Where that fails (no C++ compiler, no Triton, something torch cannot trace), a warning says so
    of `what` and the module runs as it is: the same numbers up to rounding.
    """
    # Takes a second or two to import, and nothing else here needs it.
    from torch._dynamo.exc import TorchDynamoException

    plain: Callable[[torch.Tensor], torch.Tensor] = module
    forward: Callable[[torch.Tensor], torch.Tensor] = torch.compile(module)

    def call(inputs: torch.Tensor) -> torch.Tensor:
        nonlocal forward
        try:
            return forward(inputs)
        except TorchDynamoException as error:
            reason = str(error).strip().partition("\n")[0]
            warnings.warn(f"{what} is not compiled here and runs as it is ({reason})", stacklevel=2)
            forward = plain
            return plain(inputs)

    return call
