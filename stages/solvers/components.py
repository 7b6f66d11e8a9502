"""Channels rotated to their principal components, and fewer of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from cache.errors import UserError
from stages.solvers.data import Tokens, partitions


@dataclass(frozen=True)
class Components:
    """A rotation of the channels: z = ((x - mean) / scale) @ basis.

    Parameters
    ----------
    mean, scale : tensor of shape (n_channels,)
        Scale is one but for channels of outstanding variance.
    basis : tensor of shape (n_channels, n_components)
        Orthonormal columns, by decreasing variance.
    variances : tensor of shape (n_channels,)
        Variance along every principal component, also those left out, decreasing.
    """

    mean: torch.Tensor
    scale: torch.Tensor
    basis: torch.Tensor
    variances: torch.Tensor

    @property
    def n_components(self) -> int:
        """How many components are kept."""
        return self.basis.shape[1]

    def reduce(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens (..., n_channels) to components (..., n_components)."""
        return (tokens.to(self.mean.device, torch.float32) - self.mean) / self.scale @ self.basis

    def expand(self, weights: torch.Tensor) -> torch.Tensor:
        """Weights of components (n_neurons, n_components) to weights of channels."""
        return weights @ self.basis.T / self.scale


def principal_components(
    tokens: Tokens,
    *,
    variance_kept: float,
    max_components: int,
    max_images: int,
    scale_limit: float,
    device: torch.device,
) -> Components:
    """Principal components of the channels, over positions and evenly spread trials.

    Parameters
    ----------
    variance_kept : float
        Fraction of the variance that the kept components hold together, at least.
    max_components : int
        No more are kept.
    max_images : int
        Trials beyond this number are not read for the covariance.
    scale_limit : float
        Channels whose standard deviation is more than this many times the median channel's are
        scaled down to it first, lest a few take all components.
    """
    mean, covariance = channel_moments(tokens, max_images=max_images, device=device)
    deviation = covariance.diagonal().clamp(min=0).sqrt()
    limit = scale_limit * deviation.median()
    scale = torch.where((deviation > limit) & (limit > 0), deviation / limit, 1.0)
    covariance = covariance / scale / scale[:, None]
    variances, vectors = torch.linalg.eigh(covariance)
    variances, vectors = variances.flip(0).clamp(min=0), vectors.flip(1)
    # Signs are arbitrary: make each vector's largest entry positive.
    largest = vectors.abs().argmax(dim=0, keepdim=True)
    vectors = vectors * torch.where(vectors.gather(0, largest) < 0, -1.0, 1.0)
    held = variances.cumsum(0) / variances.sum().clamp(min=1e-30)
    wanted = int((held < variance_kept).sum()) + 1
    kept = max(1, min(wanted, max_components, len(variances)))
    return Components(
        mean=mean.float(),
        scale=scale.float(),
        basis=vectors[:, :kept].float().contiguous(),
        variances=variances.float(),
    )


def channel_moments(
    tokens: Tokens, *, max_images: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and covariance of the channels over positions, float64.

    Products are taken in float32 around the mean of the first part, which keeps them small, and
    summed over parts in float64.
    """
    n_channels = tokens.shape[3]
    shift: torch.Tensor | None = None
    count = 0
    total = torch.zeros(n_channels, dtype=torch.float64, device=device)
    products = torch.zeros(n_channels, n_channels, dtype=torch.float64, device=device)
    every = max(1, -(-tokens.shape[0] // max_images))
    for first, last in partitions(tokens.shape):
        part = tokens.read(first, last)[(-first) % every :: every]
        x = part.to(device, torch.float32).reshape(-1, n_channels)
        if not len(x):
            continue
        if shift is None:
            shift = x.mean(dim=0)
        x = x - shift
        count += len(x)
        total += x.sum(dim=0)
        products += x.T @ x
    assert shift is not None
    mean = total / count
    return mean + shift, products / count - mean * mean[:, None]


class ReducedTokens:
    """Components of all trials, part by part: kept in memory, or computed anew on every pass."""

    def __init__(self, tokens: Tokens, components: Components, *, keep: bool) -> None:
        self.tokens = tokens
        self.components = components
        self.keep = keep
        self._kept: list[torch.Tensor] = []

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Trials, rows, columns, components."""
        return (*self.tokens.shape[:3], self.components.n_components)

    def __iter__(self) -> Iterator[tuple[int, int, torch.Tensor]]:
        """First trial, last trial, tensor of shape (n, n_rows, n_columns, n_components).

        Raises
        ------
        UserError
            Tokens that are not finite.
        """
        for number, (first, last) in enumerate(partitions(self.tokens.shape)):
            if number < len(self._kept):
                yield first, last, self._kept[number]
                continue
            z = self.components.reduce(self.tokens.read(first, last))
            if not bool(torch.isfinite(z).all()):
                raise UserError(
                    f"tokens of trials {first}..{last - 1} are not all finite: extract them again "
                    "in float32"
                )
            if self.keep:
                self._kept.append(z)
            yield first, last, z
