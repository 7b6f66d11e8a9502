"""Computation that settings of the caller's torch do not reach."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch


@contextmanager
def own_torch_state() -> Iterator[None]:
    """Gradients, float32 and the CPU as defaults, and no autocast, whatever surrounds a call.

    `torch.no_grad`, `torch.inference_mode`, `torch.autocast`, `torch.set_default_dtype` and
    `torch.set_default_device` are as before afterwards.
    """
    before = torch.get_default_dtype()
    with ExitStack() as state:
        if before != torch.float32:
            state.callback(torch.set_default_dtype, before)
            torch.set_default_dtype(torch.float32)
        if torch.get_default_device().type != "cpu":
            state.enter_context(torch.device("cpu"))
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                state.enter_context(torch.autocast(device, enabled=False))
        state.enter_context(torch.inference_mode(False))
        state.enter_context(torch.enable_grad())
        yield
