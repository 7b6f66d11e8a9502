"""Principal components of the channels: tokens are rotated to them, and few are kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import torch

from cache import UserError
from stages.readouts.als.partition import shards, tree_sum
from stages.readouts.solver_settings import ALSSettings
from stages.tokens.balance import balancing
from stages.tokens.random_access import RowsOnDisk
from stages.tokens.tokens import ArrayTokens, Tokens, all_finite, partitions, read_ahead, settled


@dataclass(frozen=True)
class Components:
    """A rotation of the channels: z = ((x - mean) / scale) @ basis.

    Parameters
    ----------
    mean : tensor of shape (n_rows, n_columns, n_channels)
        At each position: a constant that differs between positions is the bias's.
    scale : tensor of shape (n_channels,)
        One but for channels of outstanding variance.
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

    @property
    def scaled_basis(self) -> torch.Tensor:
        """The rotation of channels that are not scaled, (n_channels, n_components)."""
        return self.basis / self.scale[:, None]

    def expand(self, weights: torch.Tensor) -> torch.Tensor:
        """Weights of components (n_neurons, n_components) to weights of channels."""
        return weights @ self.scaled_basis.T


def principal_components(
    tokens: Tokens, settings: ALSSettings, *, device: torch.device, sources: tuple[int, ...] = ()
) -> Components:
    """Principal components of the channels, over evenly spread trials at all positions."""
    moments = partial(shard_moments, tokens, max_images=settings.basis_images, device=device)
    return components_of(tree_sum(moments, shards(tokens.shape)), settings, sources)


def components_of(
    moments: ChannelMoments, settings: ALSSettings, sources: tuple[int, ...] = ()
) -> Components:
    """Principal components from the moments of the channels.

    Parameters
    ----------
    sources : tuple of int
        Channels of each source, where tokens are of several: each has components of its own, an
        equal share of them as far as it needs them, and all have the same variance in total.
    """
    if len(sources) < 2:
        return _of_one(moments.mean, moments.covariance, settings)
    borders = [0, *accumulate(sources)]
    parts = [slice(*ends) for ends in pairwise(borders)]
    of_sources = [
        _of_one(moments.mean[..., part], moments.covariance[part, part], settings) for part in parts
    ]
    return _side_by_side(of_sources, most=settings.max_components)


def _of_one(mean: torch.Tensor, covariance: torch.Tensor, settings: ALSSettings) -> Components:
    """Principal components of one source's channels."""
    deviation = covariance.diagonal().clamp(min=0).sqrt()
    limit = settings.scale_limit * deviation.median()
    scale = torch.where((deviation > limit) & (limit > 0), deviation / limit, 1.0)
    covariance = covariance / scale / scale[:, None]
    variances, vectors = torch.linalg.eigh(covariance)
    variances, vectors = variances.flip(0).clamp(min=0), vectors.flip(1)
    # Signs are arbitrary: make each vector's largest entry positive.
    largest = vectors.abs().argmax(dim=0, keepdim=True)
    vectors = vectors * torch.where(vectors.gather(0, largest) < 0, -1.0, 1.0)
    held = variances.cumsum(0) / variances.sum().clamp(min=torch.finfo(variances.dtype).tiny)
    wanted = int((held < settings.variance_kept).sum()) + 1
    kept = max(1, min(wanted, settings.max_components, len(variances)))
    return Components(
        mean=mean.float(),
        scale=scale.float(),
        basis=vectors[:, :kept].float().contiguous(),
        variances=variances.float(),
    )


def _side_by_side(parts: Sequence[Components], *, most: int) -> Components:
    """Components of several sources, none of more variance in total than the others.

    Each has its own; what one does not need of its share of `most` goes to the others.
    """
    kept = _shares([part.n_components for part in parts], most)
    scales = balancing([float(part.variances.sum()) for part in parts])
    bases = [part.basis[:, :n] for part, n in zip(parts, kept, strict=True)]
    variances = [part.variances / s**2 for part, s in zip(parts, scales, strict=True)]
    # Whatever takes the leading components takes those of all sources.
    leading = torch.cat([each[:n] for each, n in zip(variances, kept, strict=True)])
    order = leading.argsort(descending=True, stable=True)
    return Components(
        mean=torch.cat([part.mean for part in parts], dim=-1),
        scale=torch.cat([part.scale * s for part, s in zip(parts, scales, strict=True)]),
        basis=torch.block_diag(*bases)[:, order].contiguous(),
        variances=torch.cat(variances).sort(descending=True).values,
    )


def _shares(wanted: Sequence[int], most: int) -> list[int]:
    """How many of `most` each gets: as many as it wants, of those that are left an equal share."""
    shares = [0] * len(wanted)
    left = most
    for position, place in enumerate(sorted(range(len(wanted)), key=wanted.__getitem__)):
        shares[place] = min(wanted[place], max(1, left // (len(wanted) - position)))
        left -= shares[place]
    return shares


@dataclass(frozen=True)
class ChannelMoments:
    """Mean of the channels at each position, and their products around it, float64.

    Parameters
    ----------
    count : int
        Number of trials.
    mean : tensor of shape (n_rows, n_columns, n_channels)
    scatter : tensor of shape (n_channels, n_channels)
        Summed over trials and positions.
    """

    count: int
    mean: torch.Tensor
    scatter: torch.Tensor

    @property
    def covariance(self) -> torch.Tensor:
        """Of the channels, the mean over positions."""
        return self.scatter / max(1, self.count * self.mean[..., 0].numel())

    def __add__(self, other: ChannelMoments) -> ChannelMoments:
        """The moments of both."""
        count = max(1, self.count + other.count)
        share = other.count / count
        apart = other.mean - self.mean
        between = apart.flatten(0, -2).T @ apart.flatten(0, -2)
        return ChannelMoments(
            count=self.count + other.count,
            mean=self.mean + share * apart,
            scatter=self.scatter + other.scatter + self.count * share * between,
        )


def shard_moments(
    tokens: Tokens, shard: tuple[int, int], *, max_images: int, device: torch.device
) -> ChannelMoments:
    """Moments of the trials from first to last that are among the evenly spread ones.

    Products are taken in float32 around each part's own mean, which keeps them small.
    """
    n_channels = tokens.shape[3]
    every = max(1, -(-tokens.shape[0] // max_images))
    nothing = torch.zeros(tokens.shape[1:], dtype=torch.float64, device=device)
    moments = ChannelMoments(0, nothing, nothing.new_zeros(n_channels, n_channels))
    for start, _, part in read_ahead(tokens, partitions(tokens.shape, *shard)):
        x = part[(-start) % every :: every].to(device, torch.float32)
        if len(x):
            mean = x.mean(dim=0)
            around = (x - mean).flatten(0, -2)
            moments += ChannelMoments(len(x), mean.double(), (around.T @ around).double())
    return moments


class ReducedTokens:
    """Components of all trials, part by part.

    Parameters
    ----------
    tokens : Tokens
        To be reduced.
    components : Components
    keep : bool
        In memory, from the first pass to the last.
    spill : path, optional
        Folder for a file that holds them otherwise, as long as the disk has room: they are fewer
        bytes than the tokens. Absent: computed anew on every pass.
    """

    def __init__(
        self, tokens: Tokens, components: Components, *, keep: bool, spill: Path | None = None
    ) -> None:
        self.tokens = tokens
        self.components = components
        self.keep = keep
        self._kept: torch.Tensor | None = None
        self._file: RowsOnDisk | None = None
        if spill is not None:
            with suppress(OSError):
                self._file = RowsOnDisk(self.shape, np.dtype(np.float32), spill)
        #: First trials of the parts that are kept, or in the file.
        self._held: set[int] = set()
        #: Sums of the parts over their trials, by the first one.
        self._sums: dict[int, torch.Tensor] = {}
        #: Memory that every part takes in turn: memory that comes and goes in such pieces stays
        #: with the process, many times over.
        self._room = torch.empty(0)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Trials, rows, columns, components."""
        return (*self.tokens.shape[:3], self.components.n_components)

    def __iter__(self) -> Iterator[tuple[int, int, torch.Tensor]]:
        """All parts."""
        return self.parts()

    def parts(
        self, first: int = 0, last: int | None = None
    ) -> Iterator[tuple[int, int, torch.Tensor]]:
        """First and last trial, and components, of whole partitions in first <= trial < last.

        Raises
        ------
        UserError
            Tokens that are not finite.
        """
        parts = list(partitions(self.tokens.shape, first, last))
        held = self._file if self._kept is None else ArrayTokens(self._kept)
        if held is not None and self._held.issuperset(start for start, _ in parts):
            for start, end, tokens in read_ahead(held, parts):
                yield start, end, tokens.to(self.components.mean.device)
            return
        for start, end, tokens in read_ahead(self.tokens, parts):
            z = self._reduce(start, end, tokens)
            if not all_finite(z):
                raise UserError(
                    f"tokens of trials {start}..{end - 1} are not all finite: extract them again "
                    "in float32"
                )
            self._hold(start, z)
            yield start, end, settled(z)

    def sum_of(self, first: int, part: torch.Tensor) -> torch.Tensor:
        """Sum over trials of a part that begins with trial `first`, computed once.

        Parameters
        ----------
        part : tensor of shape (n_trials, n_rows * n_columns * n_components)
        """
        if first not in self._sums:
            self._sums[first] = part.sum(dim=0)
        return self._sums[first]

    def _hold(self, start: int, z: torch.Tensor) -> None:
        """Hold a part that begins with trial `start`; where the disk is full, none from now on."""
        if self._file is not None:
            try:
                self._file.write(start, z.cpu().numpy())
            except OSError:
                self._held.clear()
                self._file.close()
                self._file = None
        if self._file is not None or self.keep:
            self._held.add(start)

    def _reduce(self, start: int, end: int, tokens: torch.Tensor) -> torch.Tensor:
        """One part's components, in their place where they are kept."""
        if self.keep and self._kept is None:
            self._kept = self.components.mean.new_empty(self.shape)
        own = self.components
        if len(self._room) < len(tokens):
            self._room = own.mean.new_empty(tokens.shape)
        x = self._room[: len(tokens)]
        x.copy_(tokens).sub_(own.mean)
        kept, shape = self._kept, (end - start, *self.shape[1:])
        z = own.mean.new_empty(shape) if kept is None else kept[start:end]
        torch.mm(x.flatten(0, -2), own.scaled_basis, out=z.flatten(0, -2))
        return z
