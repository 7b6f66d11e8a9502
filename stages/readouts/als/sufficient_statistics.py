"""Sufficient statistics of least squares with separable weights, summed over trials.

For weights w[y, x, k] = row[y] column[x] channel[k] the quadratic form w'Gw, with G the covariance
of the reduced tokens, needs G only summed over the order of each pair of rows, columns and
channels. Kept as such pairs, (H(H+1)/2, W(W+1)/2, K(K+1)/2) numbers, it is 5 times smaller than
G on a 4 x 8 grid, and so are the matrix products with it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from stages.readouts.als.partition import shards, tree_sum
from stages.readouts.als.pca import ReducedTokens


def pairs(n: int, device: torch.device | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """The pairs i <= j of range(n), in the order in which all pair statistics hold them."""
    i, j = torch.triu_indices(n, n, device=device)
    return i, j


@dataclass(frozen=True, kw_only=True)
class Sums:
    """Sums over trials, which may be added and subtracted.

    Parameters
    ----------
    count : int
        Number of trials.
    tokens : tensor of shape (n_rows, n_columns, n_components)
        Summed tokens.
    products : tensor of shape (row pairs, column pairs, component pairs)
        Summed products of tokens, over both orders of each pair.
    responses : tensor of shape (n_neurons,)
        Summed responses.
    squares : tensor of shape (n_neurons,)
        Summed squared responses.
    cross : tensor of shape (n_neurons, n_rows, n_columns, n_components)
        Summed products of response and token.
    """

    count: int
    tokens: torch.Tensor
    products: torch.Tensor
    responses: torch.Tensor
    squares: torch.Tensor
    cross: torch.Tensor

    def __add__(self, other: Sums) -> Sums:
        """The sums over the trials of both."""
        return Sums(
            count=self.count + other.count,
            tokens=self.tokens + other.tokens,
            products=self.products + other.products,
            responses=self.responses + other.responses,
            squares=self.squares + other.squares,
            cross=self.cross + other.cross,
        )

    def __sub__(self, other: Sums) -> Sums:
        """The sums over the trials that are not in `other`."""
        return Sums(
            count=self.count - other.count,
            tokens=self.tokens - other.tokens,
            products=self.products - other.products,
            responses=self.responses - other.responses,
            squares=self.squares - other.squares,
            cross=self.cross - other.cross,
        )

    def statistics(self) -> Statistics:
        """Means and covariances."""
        mean = self.tokens / self.count
        rate = self.responses / self.count
        return Statistics(
            mean_tokens=mean,
            mean_responses=rate,
            variances=(self.squares / self.count - rate.square()).clamp(min=0),
            gram=self.products / self.count - pair_products(mean),
            cross=self.cross / self.count - rate[:, None, None, None] * mean,
        )


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """What a least-squares fit needs to know of the training trials.

    Parameters
    ----------
    mean_tokens : tensor of shape (n_rows, n_columns, n_components)
    mean_responses, variances : tensor of shape (n_neurons,)
        Of the responses.
    gram : tensor of shape (row pairs, column pairs, component pairs)
        Covariance of the tokens, over both orders of each pair.
    cross : tensor of shape (n_neurons, n_rows, n_columns, n_components)
        Covariance of responses and tokens.
    """

    mean_tokens: torch.Tensor
    mean_responses: torch.Tensor
    variances: torch.Tensor
    gram: torch.Tensor
    cross: torch.Tensor

    def of(self, neurons: slice) -> Statistics:
        """The same of some neurons."""
        return replace(
            self,
            mean_responses=self.mean_responses[neurons],
            variances=self.variances[neurons],
            cross=self.cross[neurons],
        )


def pair_products(tokens: torch.Tensor) -> torch.Tensor:
    """Pair statistics of one token map (n_rows, n_columns, n_components) with itself."""
    i, j = pairs(tokens.shape[0], tokens.device)
    blocks = torch.einsum("pak,pbl->pakbl", tokens[i], tokens[j])
    return torch.stack([fold(b, same=bool(p == q)) for b, p, q in zip(blocks, i, j, strict=True)])


def fold(block: torch.Tensor, *, same: bool) -> torch.Tensor:
    """Products of two rows of tokens, (column, component, column, component), as pairs.

    Parameters
    ----------
    same : bool
        The two rows are one and the same.

    Returns
    -------
    tensor of shape (column pairs, component pairs)
    """
    w, k = block.shape[:2]
    both = block.permute(0, 2, 1, 3)
    if not same:
        both = both + both.permute(1, 0, 3, 2)
    a, b = pairs(w, block.device)
    i, j = pairs(k, block.device)
    upper = both[:, :, i, j]
    folded = upper[a, b] + upper[b, a]
    folded[a == b] *= 0.5
    return folded


def sum_products(
    reduced: ReducedTokens,
    *,
    trials: torch.Tensor | None = None,
    rows_at_once: int | None = None,
) -> torch.Tensor:
    """Summed products of the tokens as pairs; see `Sums.products`.

    Parameters
    ----------
    trials : tensor of shape (n_trials,), optional
        True for the trials that are summed; all are where absent.
    rows_at_once : int, optional
        Pairs of rows that are summed in one pass over the trials: fewer need less memory and more
        passes, and give the same numbers.
    """
    return tree_sum(
        shard_products(reduced, *shard, trials=trials, rows_at_once=rows_at_once)
        for shard in shards(reduced.tokens.shape)
    )


def shard_products(
    reduced: ReducedTokens,
    first: int,
    last: int,
    *,
    trials: torch.Tensor | None = None,
    rows_at_once: int | None = None,
) -> torch.Tensor:
    """`sum_products` over the trials first <= trial < last."""
    _, h, w, k = reduced.shape
    device = reduced.components.basis.device
    i, j = (index.tolist() for index in pairs(h))
    step = len(i) if rows_at_once is None else max(1, rows_at_once)
    folded = []
    for start in range(0, len(i), step):
        chosen = list(zip(i[start : start + step], j[start : start + step], strict=True))
        blocks = torch.zeros(len(chosen), w * k, w * k, device=device)
        for begin, end, z in reduced.parts(first, last):
            part = z if trials is None else z[trials[begin:end]]
            rows = part.reshape(len(part), h, w * k)
            for block, (p, q) in zip(blocks, chosen, strict=True):
                block.addmm_(rows[:, p].T, rows[:, q])
        folded += [
            fold(block.view(w, k, w, k), same=p == q)
            for block, (p, q) in zip(blocks, chosen, strict=True)
        ]
    return torch.stack(folded)


def sum_cross(
    reduced: ReducedTokens, responses: torch.Tensor, *, trials: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Summed tokens, and summed products of responses and tokens; see `Sums`.

    Parameters
    ----------
    responses : tensor of shape (n_trials, n_neurons)
    trials : tensor of shape (n_trials,), optional
        True for the trials that are summed; all are where absent.
    """
    _, h, w, k = reduced.shape
    device = reduced.components.basis.device
    tokens = torch.zeros(h * w * k, device=device)
    cross = torch.zeros(responses.shape[1], h * w * k, device=device)
    for first, last, z in reduced:
        flat, r = z.flatten(1), responses[first:last].to(device)
        if trials is not None:
            flat, r = flat[trials[first:last]], r[trials[first:last]]
        tokens += flat.sum(dim=0)
        cross.addmm_(r.T, flat)
    return tokens.view(h, w, k), cross.view(-1, h, w, k)


def sum_statistics(
    reduced: ReducedTokens,
    responses: torch.Tensor,
    *,
    trials: torch.Tensor | None = None,
    products: torch.Tensor | None = None,
    rows_at_once: int | None = None,
) -> Sums:
    """All sums over the trials.

    Parameters
    ----------
    responses : tensor of shape (n_trials, n_neurons)
    trials : tensor of shape (n_trials,), optional
        True for the trials that are summed; all are where absent.
    products : tensor, optional
        From `sum_products` of the same tokens, where they are known: they depend on no response.
    """
    tokens, cross = sum_cross(reduced, responses, trials=trials)
    if products is None:
        products = sum_products(reduced, trials=trials, rows_at_once=rows_at_once)
    device = tokens.device
    double = (responses if trials is None else responses[trials]).double()
    return Sums(
        count=len(double),
        tokens=tokens,
        products=products,
        responses=double.sum(dim=0).float().to(device),
        squares=double.square().sum(dim=0).float().to(device),
        cross=cross,
    )
