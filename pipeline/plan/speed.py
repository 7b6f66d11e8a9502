"""Speed of a machine, assumed or measured: what scales the prices of plans."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from stages.backbones import VIT_RATE
from stages.costs import READOUT_RATE
from stages.readouts import RATES

#: Kinds of operations, as `stages.costs.Cost.shares` names them, that read from a disk.
_READING = ("bytes read", "bytes spilled")

#: Kinds that a GPU takes over; of what else a fit does nobody has measured how it gains from one.
_ON_GPU = ("readouts", "CNN", "token products", "neuron products")


@dataclass(frozen=True, kw_only=True)
class Speed:
    """How fast a machine computes and reads; the defaults are the assumed rates.

    Parameters
    ----------
    blocks : float
        Floating-point operations per second through transformer blocks, in float32, of one core or
        of the GPU.
    products : float
        The same of products of matrices.
    core_products : float
        The same of one core, where a GPU computes.
    n_bytes : float
        Bytes per second that one core reads as tokens.
    device : str
        "cpu", or the GPU that computes.
    measured : bool
        Whether they are of this machine.
    """

    blocks: float = VIT_RATE
    products: float = READOUT_RATE
    core_products: float = READOUT_RATE
    n_bytes: float = 1e9 / RATES["bytes read"]
    device: str = "cpu"
    measured: bool = False

    @property
    def is_gpu(self) -> bool:
        """Whether hours are of a GPU."""
        return self.device != "cpu"

    def factor(self, kind: str) -> float:
        """How many times as long one kind of operation takes as at the assumed rates."""
        core = READOUT_RATE / self.core_products
        if kind == "backbone":
            return VIT_RATE / self.blocks
        if kind in _READING:
            # Tokens are read ahead, while a core makes numbers of those before.
            return max(core, 1e9 / RATES["bytes read"] / self.n_bytes)
        return READOUT_RATE / self.products if kind in _ON_GPU else core

    def told(self) -> str:
        """One line of the rates."""
        whose = self.device if self.is_gpu else "a core"
        rates = (
            f"{self.blocks / 1e9:,.0f} GFLOP/s of {whose} through transformer blocks, "
            f"{self.products / 1e9:,.0f} in products of matrices, {self.n_bytes / 1e9:.2g} GB/s "
            "of tokens read"
        )
        if not self.measured:
            return f"assumed, not measured: {rates} (--calibrate measures this machine)"
        return f"measured here: {rates}"

    def document(self) -> dict[str, Any]:
        """The same as JSON has it."""
        return asdict(self)


ASSUMED = Speed()
