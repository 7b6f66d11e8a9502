"""Alternating least squares for separable weights, from sufficient statistics, neurons in batches.

The objective of a neuron is, up to its response variance,

    w'Gw - 2 w'b + penalty |w|^2,    w[y, x, k] = row[y] column[x] channel[k],   row, column >= 0

Given two of the three factors it is quadratic in the third. Channels are a ridge solve; rows and
columns are small non-negative problems that share one contraction of G with the channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch

from stages.readouts.als.nnls import nonnegative_least_squares
from stages.readouts.als.sufficient_statistics import PairGrams, pair_products, pairs
from stages.readouts.solver_settings import ALSSettings

#: Exchanges between rows and columns for every contraction of G with the channels.
SPACE_ROUNDS = 2


class Factors(NamedTuple):
    """Separable weights; rows and columns have unit norm, unless a neuron's are all zero.

    Parameters
    ----------
    row, column, channel : tensor of shape (n_neurons, n_rows), .., (n_neurons, n_components)
    """

    row: torch.Tensor
    column: torch.Tensor
    channel: torch.Tensor

    def of(self, neurons: torch.Tensor | slice) -> Factors:
        """The factors of some neurons."""
        return Factors(*(weights[neurons] for weights in self))

    def space(self) -> torch.Tensor:
        """Spatial weights, tensor of shape (n_neurons, n_rows * n_columns)."""
        return (self.row[:, :, None] * self.column[:, None, :]).flatten(1)

    def weights(self) -> torch.Tensor:
        """All weights, tensor of shape (n_neurons, n_rows * n_columns * n_components)."""
        return (self.space()[:, :, None] * self.channel[:, None, :]).flatten(1)

    def predict(self, reduced: torch.Tensor) -> torch.Tensor:
        """Weighted tokens, (n, n_rows, n_columns, n_components) to (n, n_neurons)."""
        return reduced.flatten(1) @ self.weights().T


class Normal(NamedTuple):
    """Normal equations of the channels of some neurons, for any penalty.

    Parameters
    ----------
    matrix : tensor of shape (n_neurons, n_components, n_components)
        Its upper triangle.
    target : tensor of shape (n_neurons, n_components)
    weight : tensor of shape (n_neurons,)
        What a squared channel weighs in the penalty: the squared norm of rows times columns.
    """

    matrix: torch.Tensor
    target: torch.Tensor
    weight: torch.Tensor

    def solve(self, penalty: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Channels and objective under a penalty (n_neurons,), or one for all."""
        matrix = self.matrix.clone()
        matrix.diagonal(dim1=1, dim2=2).add_((penalty * self.weight)[:, None])
        factor = torch.linalg.cholesky_ex(matrix, upper=True).L
        channel = torch.cholesky_solve(self.target[:, :, None], factor, upper=True)[:, :, 0]
        return channel, -(channel * self.target).sum(dim=1)


def normal_equations(matrix: torch.Tensor, target: torch.Tensor, factors: Factors) -> Normal:
    """Those of covariances of pooled tokens, with each other and with responses.

    The matrix is changed: made definite in spite of rounding.
    """
    diagonal = matrix.diagonal(dim1=1, dim2=2)
    diagonal += _definite(diagonal, 1e-6)[:, None]
    return Normal(matrix, target, factors.space().square().sum(dim=1))


class SpaceGrams(Protocol):
    """Covariance of the tokens projected on each neuron's channels, float64."""

    def of_rows(self, column: torch.Tensor) -> torch.Tensor:
        """That of the rows given the columns, tensor of shape (n_neurons, n_rows, n_rows)."""

    def of_columns(self, row: torch.Tensor) -> torch.Tensor:
        """That of the columns given the rows, (n_neurons, n_columns, n_columns)."""


class AlternatingLeastSquares:
    """The alternation on tokens of one covariance.

    Parameters
    ----------
    gram : tensor of shape (row pairs, column pairs, component pairs)
        Covariance of the tokens, as `Statistics` has it.
    grid : sequence of int
        Rows, columns and components.
    settings : ALSSettings
        Of which `tolerance` and `max_rounds` are heeded.
    """

    def __init__(self, gram: torch.Tensor, grid: Sequence[int], settings: ALSSettings) -> None:
        self.settings = settings
        self.h, self.w, self.k = grid
        self.gram = gram.flatten(0, 1)
        device = self.gram.device
        self._rows, self._columns = pairs(self.h, device), pairs(self.w, device)
        i, j = pairs(self.k, device)
        self._channels = (i, j)
        #: Where the pairs lie in a (component, component) matrix's upper triangle.
        self._upper = i * self.k + j
        self._twice = torch.where(i == j, 1.0, 2.0).to(self.gram.dtype)

    def leading(self, n_components: int) -> AlternatingLeastSquares:
        """The alternation on the first components alone."""
        if n_components >= self.k:
            return self
        i, j = self._channels
        gram = self.gram[:, (i < n_components) & (j < n_components)]
        grid = (self.h, self.w, n_components)
        return AlternatingLeastSquares(gram[:, None], grid, self.settings)

    def solve(
        self, cross: torch.Tensor, start: Factors, penalty: torch.Tensor
    ) -> tuple[Factors, torch.Tensor]:
        """Alternate until every neuron has converged; also each neuron's objective.

        Parameters
        ----------
        cross : tensor of shape (n_neurons, n_rows, n_columns, n_components)
        start : Factors
            Of which only rows and columns are used.
        penalty : tensor of shape (n_neurons,)
        """
        factors = Factors(*(weights.clone() for weights in start))
        active = torch.arange(len(cross), device=cross.device)
        reached = torch.zeros(len(cross), dtype=cross.dtype, device=cross.device)
        b, current, ridge, own = cross, factors, penalty, self
        for _ in range(self.settings.max_rounds):
            channel, between = own.channels(b, current, ridge)
            current, objective = own.space(b, Factors(current.row, current.column, channel), ridge)
            for weights, new in zip(factors, current, strict=True):
                weights[active] = new
            reached[active] = objective
            # What rows and columns gained is about what channels have to gain from them.
            moving = between - objective > self.settings.tolerance * -objective
            if not bool(moving.any()):
                break
            if not bool(moving.all()):
                active, b, own = active[moving], b[moving], own.of(moving)
                current, ridge = current.of(moving), ridge[moving]
        return factors, reached

    def channels(
        self, cross: torch.Tensor, factors: Factors, penalty: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The best channels given rows and columns, a ridge solve per neuron; the objective too."""
        return self.normal(cross, factors).solve(penalty)

    def normal(self, cross: torch.Tensor, factors: Factors) -> Normal:
        """The normal equations of the channels given rows and columns."""
        space = factors.space()
        target = torch.bmm(space[:, None, :], cross.flatten(1, 2))[:, 0]
        return normal_equations(self.pooled_gram(factors), target, factors)

    def pooled_gram(self, factors: Factors) -> torch.Tensor:
        """Covariance of the tokens that each neuron pools, its upper triangle.

        Tensor of shape (n_neurons, n_components, n_components).
        """
        row, column = factors.row, factors.column
        both = (
            pair_products(row, self._rows)[:, :, None]
            * pair_products(column, self._columns)[:, None]
        )
        packed = both.flatten(1) @ self.gram
        matrix = packed.new_empty(len(packed), self.k**2).index_copy_(1, self._upper, packed)
        return matrix.view(-1, self.k, self.k)

    def space_grams(self, channel: torch.Tensor) -> SpaceGrams:
        """Covariance of the tokens projected on each neuron's channels."""
        gram = (pair_products(channel, self._channels) * self._twice) @ self.gram.T
        gram = gram.view(-1, len(self._rows[0]), len(self._columns[0]))
        return PairGrams(gram.double(), self._rows, self._columns)

    def of(self, neurons: torch.Tensor) -> AlternatingLeastSquares:
        """The alternation of some neurons: all have the same covariance."""
        return self

    def space(
        self, cross: torch.Tensor, factors: Factors, penalty: torch.Tensor
    ) -> tuple[Factors, torch.Tensor]:
        """Better rows and columns given the channels, and the objective of the result.

        The norms of rows and columns move to the channels.
        """
        row, column, channel = factors.row, factors.column, factors.channel
        grams = self.space_grams(channel)
        target = torch.bmm(cross.flatten(1, 2), channel[:, :, None]).view(-1, self.h, self.w)
        ridge = penalty * channel.square().sum(dim=1)
        target, ridge = target.double(), ridge.double()
        row, column = row.double(), column.double()
        objective = torch.zeros_like(ridge)
        for _ in range(SPACE_ROUNDS):
            linear = torch.bmm(target, column[:, :, None])[:, :, 0]
            weight = ridge * column.square().sum(dim=1)
            row, _ = _factor(grams.of_rows(column), linear, weight, row)
            linear = torch.bmm(row[:, None, :], target)[:, 0]
            weight = ridge * row.square().sum(dim=1)
            column, objective = _factor(grams.of_columns(row), linear, weight, column)
        row, row_norm = _unit(row)
        column, column_norm = _unit(column)
        dtype = channel.dtype
        channel = channel * (row_norm * column_norm).to(dtype)
        return Factors(row.to(dtype), column.to(dtype), channel), objective.to(dtype)


def _factor(
    gram: torch.Tensor, linear: torch.Tensor, ridge: torch.Tensor, start: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The best non-negative factor, and the objective with it; writes on the Gram matrices."""
    diagonal = gram.diagonal(dim1=1, dim2=2)
    diagonal += (ridge + _definite(diagonal, 1e-9))[:, None]
    factor = nonnegative_least_squares(gram, linear, start=start)
    value = torch.bmm(gram, factor[:, :, None])[:, :, 0]
    return factor, (factor * (value - 2 * linear)).sum(dim=1)


def _definite(diagonal: torch.Tensor, share: float) -> torch.Tensor:
    """What makes matrices with such diagonals definite in spite of rounding: a share of their mean.

    A neuron without weights, or tokens that do not vary, leave an empty problem with no unit: 1.
    """
    mean = diagonal.mean(dim=-1)
    return torch.where(mean > 0, share * mean, 1)


def initial_factors(cross: torch.Tensor, gram: torch.Tensor, penalty: float) -> Factors:
    """Rows and columns around the position that explains the responses best.

    Every position's own ridge, from `position_grams`, gives a map of how much it explains. Its
    fourth power, which leaves little but the peak, is made separable: broader starts end in worse
    minima more often.
    """
    h, w, _ = cross.shape[1:]
    explained = torch.empty(cross.shape[:3], dtype=cross.dtype, device=cross.device)
    for y in range(h):
        for x in range(w):
            normal = gram[y, x].clone()
            diagonal = normal.diagonal()
            diagonal += penalty + _definite(diagonal, 1e-6)
            b = cross[:, y, x]
            solved = torch.linalg.solve(normal, b.T).T
            explained[:, y, x] = (b * solved).sum(dim=1).clamp(min=0)
    explained = (explained / explained.amax(dim=(1, 2), keepdim=True).clamp(min=1e-30)) ** 4
    # A neuron that nothing explains starts flat.
    explained += 1e-6
    column = explained.mean(dim=1)
    row = explained.mean(dim=2)
    for _ in range(10):
        row, _ = _unit(torch.bmm(explained, column[:, :, None])[:, :, 0])
        column, _ = _unit(torch.bmm(row[:, None, :], explained)[:, 0])
    return Factors(row, column, torch.zeros_like(cross[:, 0, 0]))


def position_grams(gram: torch.Tensor, grid: Sequence[int]) -> torch.Tensor:
    """Covariance within each position, (n_rows, n_columns, n_components, n_components)."""
    h, w, k = grid
    y, x = (torch.nonzero(i == j)[:, 0] for i, j in (pairs(h, gram.device), pairs(w, gram.device)))
    packed = gram.view(h * (h + 1) // 2, w * (w + 1) // 2, -1)[y][:, x]
    full = torch.empty(h, w, k, k, dtype=packed.dtype, device=gram.device)
    i, j = pairs(k, gram.device)
    full[:, :, i, j] = packed
    full[:, :, j, i] = packed
    return full


def _unit(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit rows and their norms; zero rows stay zero."""
    norm = values.norm(dim=1, keepdim=True)
    return values / norm.clamp(min=1e-30), norm
