"""Compiled forward passes, which fall back to the plain ones where torch cannot compile."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import nn


class Compiled:
    """A module's forward pass, compiled at its first call.

    Where that fails (no C++ compiler, no Triton, something torch cannot trace), a warning says so
    and the module runs as it is: the same numbers up to rounding.

    Parameters
    ----------
    module : Module
        Takes and gives one tensor.
    what : str
        What the warning calls it.
    """

    def __init__(self, module: nn.Module, *, what: str) -> None:
        # Takes a second or two to import, and nothing else here needs it.
        from torch._dynamo.exc import TorchDynamoException

        self._failure = TorchDynamoException
        self._plain: Callable[[torch.Tensor], torch.Tensor] = module
        self._forward: Callable[[torch.Tensor], torch.Tensor] = torch.compile(module)
        self._what = what

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """What the module gives."""
        try:
            return self._forward(inputs)
        except self._failure as error:
            reason = str(error).strip().partition("\n")[0]
            warnings.warn(
                f"{self._what} is not compiled here and runs as it is ({reason})", stacklevel=2
            )
            self._forward = self._plain
            return self._plain(inputs)
