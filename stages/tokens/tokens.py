"""The tokens that solvers are given: read part by part, the next part ahead."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    import torch

#: Token values of one partition: small enough to compute on beside everything else.
PARTITION_ELEMENTS = 2**23

#: Addresses of torch's own tensors on a CPU are multiples of so many bytes.
ALIGNMENT = 64

#: Share of the memory limit up to which tokens are read once, rather than for every pass.
IN_MEMORY = 0.25


class Readable(Protocol):
    """Anything that is read part by part."""

    def read(self, first: int, last: int) -> torch.Tensor:
        """Tokens of the trials first <= trial < last, in their stored dtype."""


class Tokens(Readable, Protocol):
    """Tokens of some trials, in memory or wherever they can be read from."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Trials, rows, columns, channels."""


@dataclass(frozen=True)
class ArrayTokens:
    """Tokens in memory, tensor of shape (n_trials, n_rows, n_columns, n_channels)."""

    tensor: torch.Tensor

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Trials, rows, columns, channels."""
        n_trials, rows, columns, channels = self.tensor.shape
        return n_trials, rows, columns, channels

    def read(self, first: int, last: int) -> torch.Tensor:
        """Tokens of the trials first <= trial < last."""
        return settled(self.tensor[first:last])


def settled(values: torch.Tensor) -> torch.Tensor:
    """The same values, in memory as torch's own tensors are: copied where they are not.

    A product may be rounded by the address and the strides of what it is taken of. Nothing is
    computed of half-precision values: they are widened first, into memory of torch's own.
    """
    import torch

    if values.element_size() < 4:
        return values.contiguous()
    if values.is_contiguous() and values.data_ptr() % ALIGNMENT == 0:
        return values
    return values.clone(memory_format=torch.contiguous_format)


def all_finite(values: torch.Tensor) -> bool:
    """Whether no value is infinite or NaN; looks for the extremes, which NaN would be one of."""
    # Those who only divide trials into parts need no torch.
    import torch

    if not values.numel():
        return True
    low, high = torch.aminmax(values)
    return bool(torch.isfinite(low) & torch.isfinite(high))


def partitions(
    shape: tuple[int, ...], first: int = 0, last: int | None = None
) -> Iterator[tuple[int, int]]:
    """First and last trial of the parts that sums over trials are taken in.

    They follow from the tokens' shape alone, so that no sum depends on how much memory there is.

    Parameters
    ----------
    first, last : int
        Only the parts within; both are borders of parts.
    """
    n_trials = shape[0] if last is None else last
    step = max(8, min(2048, PARTITION_ELEMENTS // int(np.prod(shape[1:]))))
    for start in range(first, n_trials, step):
        yield start, min(n_trials, start + step)


def read_ahead(
    tokens: Readable, parts: Iterable[tuple[int, int]]
) -> Iterator[tuple[int, int, torch.Tensor]]:
    """Each part's first and last trial and its tokens; the next part is read meanwhile."""
    if isinstance(tokens, ArrayTokens):
        yield from ((first, last, tokens.read(first, last)) for first, last in parts)
        return
    with ThreadPoolExecutor(1, "tokens") as reading:
        ahead: tuple[int, int, Future[torch.Tensor]] | None = None
        for first, last in parts:
            following = (first, last, reading.submit(tokens.read, first, last))
            if ahead is not None:
                yield ahead[0], ahead[1], ahead[2].result()
            ahead = following
        if ahead is not None:
            yield ahead[0], ahead[1], ahead[2].result()
