"""Sufficient statistics of least squares with separable weights, summed over trials.

For weights w[y, x, k] = row[y] column[x] channel[k] the quadratic form w'Gw, with G the covariance
of the reduced tokens, needs G only summed over the order of each pair of rows, columns and
channels. Kept as such pairs, (H(H+1)/2, W(W+1)/2, K(K+1)/2) numbers, it is 5 times smaller than
G on a 4 x 8 grid, and so are the matrix products with it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import torch

from stages.readouts.als.partition import shards, tree_sum
from stages.readouts.als.pca import ReducedTokens
from stages.tokens.tokens import settled


def pairs(n: int, device: torch.device | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """The pairs i <= j of range(n), in the order in which all pair statistics hold them."""
    i, j = torch.triu_indices(n, n, device=device)
    return i, j


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


def _pair_products(tokens: torch.Tensor) -> torch.Tensor:
    """Pair statistics of one token map (n_rows, n_columns, n_components) with itself."""
    i, j = pairs(tokens.shape[0], tokens.device)
    blocks = torch.einsum("pak,pbl->pakbl", tokens[i], tokens[j])
    return torch.stack([_fold(b, same=bool(p == q)) for b, p, q in zip(blocks, i, j, strict=True)])


def _fold(block: torch.Tensor, *, same: bool) -> torch.Tensor:
    """Products of two rows of tokens (`same`: one and the same), over pairs.

    From (column, component, column, component) to (column pairs, component pairs).
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


def token_covariance(
    products: torch.Tensor, n_trials: int, mean_tokens: torch.Tensor
) -> torch.Tensor:
    """Covariance of the tokens, as pairs, from `sum_products`."""
    return products / n_trials - _pair_products(mean_tokens)


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
    i, j = (index.tolist() for index in pairs(h))
    step = len(i) if rows_at_once is None else max(1, rows_at_once)
    folded = []
    for start in range(0, len(i), step):
        chosen = list(zip(i[start : start + step], j[start : start + step], strict=True))
        blocks = torch.zeros(len(chosen), w * k, w * k, device=device)
        for _, _, z in reduced.parts(*shard):
            rows = z.reshape(len(z), h, w * k)
            for block, (p, q) in zip(blocks, chosen, strict=True):
                block.addmm_(rows[:, p].T, rows[:, q])
        folded += [
            _fold(block.view(w, k, w, k), same=p == q)
            for block, (p, q) in zip(blocks, chosen, strict=True)
        ]
    return torch.stack(folded)


def sum_statistics(
    reduced: ReducedTokens, responses: torch.Tensor, products: torch.Tensor
) -> Statistics:
    """Means and covariances over trials; responses (n_trials, n_neurons), and `sum_products`."""
    _, h, w, k = reduced.shape
    device = reduced.components.basis.device
    tokens = torch.zeros(h * w * k, device=device)
    cross = torch.zeros(responses.shape[1], h * w * k, device=device)
    for first, last, z in reduced:
        flat = z.flatten(1)
        tokens += flat.sum(dim=0)
        cross.addmm_(settled(responses[first:last].to(device)).T, flat)
    count = len(responses)
    mean = tokens.view(h, w, k) / count
    rate = responses.double().sum(dim=0).float().to(device) / count
    return Statistics(
        mean_tokens=mean,
        mean_responses=rate,
        gram=token_covariance(products, count, mean),
        cross=cross.view(-1, h, w, k) / count - rate[:, None, None, None] * mean,
    )
