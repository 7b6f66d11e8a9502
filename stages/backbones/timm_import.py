"""timm, used without torch's compiler, which takes longer to import than all else here.

timm and torchvision want the compiler for two things: to keep functions of NaFlexViT out of what is
compiled, and to ask in `roi_align` what can be compiled. Both come to it here once they are called.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

try:
    from torch._compile import _disable_dynamo
except ImportError:  # a torch that does it otherwise: timm is imported as it is
    _disable_dynamo = None  # type: ignore[assignment]

_UTILS = "torch._dynamo.utils"


class _StandIn(ModuleType):
    """The compiler's utilities, until somebody wants more of them than one function."""

    @staticmethod
    def is_compile_supported(device_type: str) -> Any:
        """The answer of the function of this name."""
        return importlib.import_module(_UTILS).is_compile_supported(device_type)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        # The compiler itself is imported after all.
        if sys.modules.get(_UTILS) is self:
            del sys.modules[_UTILS]
        return getattr(importlib.import_module(_UTILS), name)


@contextmanager
def _without_compiler() -> Iterator[None]:
    if _UTILS in sys.modules or _disable_dynamo is None:
        yield
        return
    stand_in = sys.modules[_UTILS] = _StandIn(_UTILS)
    disable = torch.compiler.disable
    # torch's own decorator: the same, at the first call.
    torch.compiler.disable = _disable_dynamo  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.compiler.disable = disable
        if sys.modules.get(_UTILS) is stand_in:
            del sys.modules[_UTILS]


with _without_compiler():
    import timm


#: What weights are drawn with.
_DRAWING = {
    *(torch.Tensor.normal_, torch.Tensor.uniform_, torch.Tensor.erfinv_, torch.Tensor.clamp_),
    *(torch.nn.init.normal_, torch.nn.init.uniform_, torch.nn.init.kaiming_uniform_),
}


class _Undrawn(TorchFunctionMode):
    """Weights without values are not drawn: here, too, torch would import its compiler."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if func in _DRAWING:
            return args[0] if args else given["tensor"]
        return func(*args, **given)


@contextmanager
def shapes_only() -> Iterator[None]:
    """Models that are made within this have shapes and no values."""
    with torch.device("meta"), _Undrawn():
        yield


__all__ = ["shapes_only", "timm"]
