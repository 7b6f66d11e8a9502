"""Sufficient statistics of least squares with separable weights, summed over trials.

For weights w[y, x, k] = row[y] column[x] channel[k] the quadratic form w'Gw, with G the covariance
of the reduced tokens, needs G only summed over the order of each pair of rows, columns and
channels. Kept as such pairs, (H(H+1)/2, W(W+1)/2, K(K+1)/2) numbers, it is 5 times smaller than
G on a 4 x 8 grid, and so are the matrix products with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import torch

from stages.readouts.als.partition import shards, tree_sum
from stages.readouts.als.pca import ReducedTokens
from stages.tokens.tokens import settled

Index = tuple[torch.Tensor, torch.Tensor]


def pairs(n: int, device: torch.device | None = None) -> Index:
    """The pairs i <= j of range(n), in the order in which all pair statistics hold them."""
    i, j = torch.triu_indices(n, n, device=device)
    return i, j


def pair_products(values: torch.Tensor, index: Index) -> torch.Tensor:
    """Products over pairs, (n_neurons, n) to (n_neurons, n_pairs)."""
    return values.index_select(1, index[0]) * values.index_select(1, index[1])


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """What a least-squares fit needs to know of the training trials.

    Parameters
    ----------
    mean_tokens : tensor of shape (n_rows, n_columns, n_components)
    mean_responses : tensor of shape (n_neurons,)
    gram : tensor of shape (row pairs, column pairs, component pairs)
        Covariance of the tokens, over both orders of each pair.
    cross : tensor of shape (n_neurons, n_rows, n_columns, n_components)
        Covariance of responses and tokens.
    """

    mean_tokens: torch.Tensor
    mean_responses: torch.Tensor
    gram: torch.Tensor
    cross: torch.Tensor

    def of(self, neurons: slice) -> Statistics:
        """The same of some neurons."""
        own = self.mean_responses[neurons]
        return replace(self, mean_responses=own, cross=self.cross[neurons])


@dataclass(frozen=True)
class TrialSums:
    """Sums over trials that a least-squares fit needs beside `sum_products`.

    Parameters
    ----------
    n_trials : int
    tokens : tensor of shape (n_rows, n_columns, n_components)
    responses : tensor of shape (n_neurons,)
        float64.
    cross : tensor of shape (n_neurons, n_rows, n_columns, n_components)
        Of responses times tokens.
    """

    n_trials: int
    tokens: torch.Tensor
    responses: torch.Tensor
    cross: torch.Tensor

    def __add__(self, other: TrialSums) -> TrialSums:
        """The sums over both."""
        return TrialSums(
            self.n_trials + other.n_trials,
            self.tokens + other.tokens,
            self.responses + other.responses,
            self.cross + other.cross,
        )

    def statistics(self, products: torch.Tensor) -> Statistics:
        """Means and covariances, with `sum_products` over the same trials."""
        mean = self.tokens / self.n_trials
        rate = (self.responses / self.n_trials).float()
        cross = (self.cross / self.n_trials).sub_(rate[:, None, None, None] * mean)
        gram = (products / self.n_trials).sub_(_paired(mean))
        return Statistics(mean_tokens=mean, mean_responses=rate, gram=gram, cross=cross)


def sum_products(reduced: ReducedTokens, *, rows_at_once: int | None = None) -> torch.Tensor:
    """Products of the tokens summed over trials, as pairs; they depend on no response.

    Parameters
    ----------
    rows_at_once : int, optional
        Pairs of rows that are summed in one pass over the trials: fewer need less memory and more
        passes, and give the same numbers.

    Returns
    -------
    tensor of shape (row pairs, column pairs, component pairs)
        Over both orders of each pair.
    """
    products = partial(shard_products, reduced, rows_at_once=rows_at_once)
    return tree_sum(products, shards(reduced.tokens.shape))


def shard_products(
    reduced: ReducedTokens, shard: tuple[int, int], *, rows_at_once: int | None = None
) -> torch.Tensor:
    """`sum_products` over the trials from first to last."""
    _, h, w, k = reduced.shape
    device = reduced.components.basis.device
    number = h * (h + 1) // 2
    step = number if rows_at_once is None else max(1, rows_at_once)
    folded = []
    for start in range(0, number, step):
        products = RowProducts((h, w, k), range(start, min(number, start + step)), device)
        for _, _, z in reduced.parts(*shard):
            products.add(z)
        folded += products.folded()
    return _apart(folded, h)


class RowProducts:
    """Products of some pairs of patch rows with themselves, summed over trials.

    The product over both orders of two rows p and q is that of p + q with itself, less that of
    each: a product of something with itself needs half of its blocks only.

    Parameters
    ----------
    grid : sequence of int
        Rows, columns and components.
    chosen : sequence of int
        Numbers of the pairs of rows, in the order of `pairs`.
    """

    def __init__(self, grid: Sequence[int], chosen: Sequence[int], device: torch.device) -> None:
        h, self.w, self.k = grid
        i, j = (index.tolist() for index in pairs(h))
        self.rows = [(i[number], j[number]) for number in chosen]
        widths = [self.k * (self.w - column) for column in range(self.w)]
        #: For each pair, products of each column with itself and those after it.
        self.blocks = [
            [torch.zeros(self.k, width, device=device) for width in widths] for _ in chosen
        ]

    def add(self, z: torch.Tensor) -> None:
        """Take in trials, (n_trials, n_rows, n_columns, n_components)."""
        for blocks, (p, q) in zip(self.blocks, self.rows, strict=True):
            row = (z[:, p] if p == q else z[:, p] + z[:, q]).flatten(1)
            for block in blocks:
                after = row[:, row.shape[1] - block.shape[1] :]
                block.addmm_(after[:, : self.k].T, after)

    def folded(self) -> list[torch.Tensor]:
        """For each pair of rows, (column pairs, component pairs) over both orders of each."""
        return [self._fold(blocks) for blocks in self.blocks]

    def _fold(self, blocks: Sequence[torch.Tensor]) -> torch.Tensor:
        i, j = pairs(self.k, blocks[0].device)
        upper = i * self.k + j
        parts = []
        for block in blocks:
            both = block.view(self.k, -1, self.k).permute(1, 0, 2)
            whole = (both + both.mT).flatten(1)
            folded = whole.gather(1, upper.expand(len(whole), -1))
            folded[0] *= 0.5  # a column with itself has one order
            parts.append(folded)
        return torch.cat(parts)


def _apart(folded: Sequence[torch.Tensor], h: int) -> torch.Tensor:
    """Pair statistics of rows p and q, from those of p + q for every pair."""
    i, j = (index.tolist() for index in pairs(h))
    own = {p: each for each, p, q in zip(folded, i, j, strict=True) if p == q}
    return torch.stack(
        [
            each if p == q else each - own[p] - own[q]
            for each, p, q in zip(folded, i, j, strict=True)
        ]
    )


def _paired(tokens: torch.Tensor) -> torch.Tensor:
    """Pair statistics of the tokens of one trial, (n_rows, n_columns, n_components)."""
    h, w, k = tokens.shape
    (p, q), (a, b), (i, j) = (pairs(n, tokens.device) for n in (h, w, k))
    rows = torch.where((p == q)[:, None, None], tokens[p], tokens[p] + tokens[q])
    first, second = (rows.index_select(2, index) for index in (i, j))
    folded = first[:, a] * second[:, b]
    folded += second[:, a] * first[:, b]
    folded[:, a == b] *= 0.5  # a column with itself has one order
    return _apart(list(folded), h)


def sum_trials(reduced: ReducedTokens, responses: torch.Tensor) -> TrialSums:
    """Sums over trials of responses (n_trials, n_neurons) and tokens."""
    grid = reduced.shape[1:]
    device = reduced.components.basis.device
    tokens = torch.zeros(math.prod(grid), device=device)
    cross = torch.zeros(responses.shape[1], math.prod(grid), device=device)
    for first, last, z in reduced:
        flat = z.flatten(1)
        tokens += reduced.sum_of(first, flat)
        cross.addmm_(settled(responses[first:last].to(device)).T, flat)
    total = responses.double().sum(dim=0).to(device)
    return TrialSums(len(responses), tokens.view(grid), total, cross.view(-1, *grid))


class PairGrams(NamedTuple):
    """Covariance over the pairs of rows and of columns, (n_neurons, row pairs, column pairs)."""

    gram: torch.Tensor
    rows: Index
    columns: Index

    def of_rows(self, column: torch.Tensor) -> torch.Tensor:
        """See `stages.readouts.als.alternating.SpaceGrams`."""
        weights = pair_products(column, self.columns)
        return _unpacked(torch.bmm(self.gram, weights[:, :, None])[:, :, 0], self.rows)

    def of_columns(self, row: torch.Tensor) -> torch.Tensor:
        """Likewise."""
        weights = pair_products(row, self.rows)
        return _unpacked(torch.bmm(weights[:, None, :], self.gram)[:, 0], self.columns)


def _unpacked(packed: torch.Tensor, index: Index) -> torch.Tensor:
    """Symmetric matrices from sums over both orders of their pairs."""
    i, j = index
    n = int(j[-1]) + 1
    full = packed.new_empty(len(packed), n, n)
    full[:, i, j] = full[:, j, i] = packed * torch.where(i == j, 1.0, 0.5).to(packed.dtype)
    return full
