"""The one readout: separable non-negative space times a channel mixture, through ELU + 1.

For tokens F of one image and one neuron,

    z  = sum_y Wy[y] sum_x Wx[x] sum_c Wc[c] F[y, x, c] + b        Wy, Wx >= 0
    mu = ELU(z) + 1

and the Poisson loss of a response r is mu - r log(mu). CLS tokens are the same on a 1 x 1 grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from cache import UserError
from stages.readouts.sizes import PREDICT_ELEMENTS
from stages.readouts.storage.archive import KeptReadouts
from stages.tokens.given import as_grid
from stages.tokens.tokens import Tokens, partitions, read_ahead
from stages.training.epoch import Epoch
from stages.training.torch_state import own_torch_state

Output = Literal["elu", "linear", "signed"]


def predicted_at_once(n_rows: int, n_columns: int, n_neurons: int) -> int:
    """Images whose rates may be computed together on a grid of tokens."""
    return max(1, PREDICT_ELEMENTS // max(1, n_rows * n_columns * n_neurons))


def rate(z: torch.Tensor) -> torch.Tensor:
    """ELU(z) + 1: exp(z) below zero, z + 1 above."""
    # At exactly 0, where clamp has no gradient, the linear branch is taken.
    return torch.where(z >= 0, z + 1, torch.exp(z.clamp(max=0)))


def log_rate(z: torch.Tensor) -> torch.Tensor:
    """The logarithm of `rate`, finite for every finite z.

    In float32 ELU(z) + 1 is exactly 0 for very negative z: below zero the logarithm is z itself.
    """
    return torch.where(z > 0, torch.log1p(z.clamp(min=0)), z)


def predicted(z: torch.Tensor, output: Output) -> torch.Tensor:
    """What readouts of such an output predict."""
    return rate(z) if output == "elu" else z if output == "signed" else z.clamp(min=0)


def poisson_loss(z: torch.Tensor, responses: torch.Tensor) -> torch.Tensor:
    """Poisson loss of each response, mu - r log(mu), up to the term of r alone; 0 where r is NaN.

    Parameters
    ----------
    z, responses : tensor of shape (n_images, n_neurons)
        Linear predictors, before ELU + 1, and responses >= 0.
    """
    missing = responses.isnan()
    loss = rate(z) - torch.where(missing, 0, responses) * log_rate(z)
    return torch.where(missing, 0, loss)


class Readout(nn.Module):
    """Readouts of a population as trainable parameters.

    Parameters
    ----------
    row_weights, column_weights, channel_weights : tensor of shape (n_neurons, n)
        Initial weights; rows and columns must not be negative.
    bias : tensor of shape (n_neurons,)
        Initial biases.
    """

    def __init__(
        self,
        *,
        row_weights: torch.Tensor,
        column_weights: torch.Tensor,
        channel_weights: torch.Tensor,
        bias: torch.Tensor,
    ) -> None:
        super().__init__()
        self.row_weights = nn.Parameter(row_weights.clone())
        self.column_weights = nn.Parameter(column_weights.clone())
        self.channel_weights = nn.Parameter(channel_weights.clone())
        self.bias = nn.Parameter(bias.clone())

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens (n_images, n_rows, n_columns, n_channels) to z (n_images, n_neurons)."""
        _, rows, columns, channels = tokens.shape
        if channels >= rows * columns:
            mixed = tokens @ self.channel_weights.T  # (image, row, column, neuron)
            rows_left = (mixed * self.column_weights.T).sum(dim=2)  # (image, row, neuron)
            return (rows_left * self.row_weights.T).sum(dim=1) + self.bias
        # On the large grid of a CNN the other order has the smaller intermediate.
        space = self.row_weights[:, :, None] * self.column_weights[:, None, :]
        pooled = tokens.flatten(1, 2).transpose(1, 2) @ space.flatten(1).T
        return (pooled * self.channel_weights.T).sum(dim=1) + self.bias  # (image, channel, neuron)

    def squared_norms(self) -> torch.Tensor:
        """Summed squares of each neuron's weights, tensor of shape (n_neurons,)."""
        weights = (self.channel_weights, self.row_weights, self.column_weights)
        return torch.stack([w.square().sum(dim=1) for w in weights]).sum(dim=0)

    @torch.no_grad()
    def project(self) -> None:
        """Zero negative row and column weights, and what is so small that processors slow down."""
        self.row_weights.clamp_(min=0)
        self.column_weights.clamp_(min=0)
        self.channel_weights.copy_(nn.functional.hardshrink(self.channel_weights, 1e-30))


@dataclass(frozen=True, kw_only=True)
class Readouts(KeptReadouts):
    """Fitted readouts of a population, as numpy arrays.

    Parameters
    ----------
    row_weights, column_weights, channel_weights : array of shape (n_neurons, n)
        The separable weights.
    bias : array of shape (n_neurons,)
        Biases.
    scale : array of shape (n_neurons,)
        What the responses were divided by for fitting; predictions are multiplied by it.
    curve : sequence of Epoch
        How the fit went; empty for a saved one.
    output : str
        "elu" for ELU(z) + 1; "linear" for z clipped at zero; "signed" for z itself.
    penalty : array of shape (n_neurons,), optional
        What was added to the mean loss per trial, per squared norm of a neuron's product of
        weights, where each neuron has its own.
    unrefitted : Readouts, optional
        The same neurons' readouts from before they were fitted again to training and validation
        trials together: fitted to the training trials alone.
    """

    row_weights: NDArray[np.float32]
    column_weights: NDArray[np.float32]
    channel_weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    scale: NDArray[np.float32]
    curve: Sequence[Epoch] = ()
    output: Output = "elu"
    penalty: NDArray[np.float32] | None = None
    unrefitted: Readouts | None = None

    @property
    def held_out(self) -> Readouts:
        """The readouts whose weights no validation trial decided: for scores on those trials."""
        return self if self.unrefitted is None else self.unrefitted

    @property
    def grid(self) -> tuple[int, int, int]:
        """Rows, columns and channels of the tokens these readouts read."""
        rows, columns, channels = self.row_weights, self.column_weights, self.channel_weights
        return rows.shape[1], columns.shape[1], channels.shape[1]

    def of(self, neurons: slice) -> Readouts:
        """Those of some neurons."""
        return replace(
            self,
            row_weights=self.row_weights[neurons],
            column_weights=self.column_weights[neurons],
            channel_weights=self.channel_weights[neurons],
            bias=self.bias[neurons],
            scale=self.scale[neurons],
            penalty=None if self.penalty is None else self.penalty[neurons],
            unrefitted=None if self.unrefitted is None else self.unrefitted.of(neurons),
        )

    def scaled(self, scale: NDArray[np.float32]) -> Readouts:
        """The same, with what responses were divided by."""
        before = None if self.unrefitted is None else self.unrefitted.scaled(scale)
        return replace(self, scale=scale, unrefitted=before)

    def module(self) -> Readout:
        """The same readouts as a torch module, for training on."""
        names = ("row_weights", "column_weights", "channel_weights", "bias")
        return Readout(**{name: torch.from_numpy(getattr(self, name)) for name in names})

    @own_torch_state()
    @torch.inference_mode()
    def predict(
        self, tokens: ArrayLike | torch.Tensor, *, device: torch.device | str = "cpu"
    ) -> NDArray[np.float32]:
        """Predicted rates in the units of the responses that were fitted.

        Parameters
        ----------
        tokens : array of shape (n_images, n_rows, n_columns, n_channels)
            Anything that `cache.as_array` takes. CLS tokens may come as (n_images, n_channels).

        Returns
        -------
        array of shape (n_images, n_neurons)

        Raises
        ------
        UserError
            Tokens of another grid or number of channels, or what are no numbers.
        """
        x = as_grid(tokens)
        if tuple(x.shape[1:]) != self.grid:
            raise UserError(
                f"tokens have shape {tuple(x.shape)}, but these readouts read (image, row, column, "
                f"channel) = (n, {', '.join(map(str, self.grid))}): take the tokens of the same "
                "backbone, input size and token kind"
            )
        module = self.module().to(device)
        rates = np.empty((len(x), len(self.bias)), dtype=np.float32)
        step = predicted_at_once(self.grid[0], self.grid[1], len(self.bias))
        for first in range(0, len(x), step):
            z = module(x[first : first + step].to(device, torch.float32))
            rates[first : first + step] = predicted(z, self.output).cpu().numpy()
        return rates * self.scale


def joined(parts: Sequence[Readouts]) -> Readouts:
    """The readouts of several groups of neurons as one, with neither curve nor `unrefitted`."""

    def of_all(name: str) -> Any:
        return np.concatenate([getattr(part, name) for part in parts])

    return Readouts(
        row_weights=of_all("row_weights"),
        column_weights=of_all("column_weights"),
        channel_weights=of_all("channel_weights"),
        bias=of_all("bias"),
        scale=of_all("scale"),
        penalty=of_all("penalty"),
    )


def predict(
    readouts: Readouts, tokens: Tokens, device: str, *, groups: Sequence[slice] = (slice(None),)
) -> NDArray[np.float32]:
    """Rates for all trials, part by part, array of shape (n_trials, n_neurons).

    Parameters
    ----------
    groups : sequence of slice
        Neurons whose rates are computed together, one group after the other.
    """
    chosen = [readouts.of(group) for group in groups]
    rates = [
        np.concatenate([each.predict(part, device=device) for each in chosen], axis=1)
        for _, _, part in read_ahead(tokens, partitions(tokens.shape))
    ]
    none = np.empty((0, len(readouts.bias)), dtype=np.float32)
    return np.concatenate([none, *rates])


def initial_readout(
    neurons: NDArray[np.int64],
    grid: Sequence[int],
    *,
    seed: int,
    space_scale: float,
    channel_scale: float,
) -> Readout:
    """Normal weights and zero bias, drawn by neuron so that none depends on another.

    Space takes the drawn weights' absolute values: an all-negative draw would be clamped to zero.
    An axis of length 1 keeps the weight 1: its weight is a scale that the channels have already,
    and on the 1 x 1 grid of CLS tokens, row and column that reach zero together never leave it.

    Parameters
    ----------
    neurons : array of shape (n_neurons,)
        Identity of each neuron.
    grid : sequence of int
        Rows, columns and channels of the tokens.
    space_scale, channel_scale : float
        Standard deviation of the drawn weights.
    """
    draws = (np.random.default_rng([seed, int(neuron)]) for neuron in neurons)
    drawn = np.stack([draw.standard_normal(sum(grid)) for draw in draws])
    row, column, channel = np.split(drawn, np.cumsum(grid)[:2], axis=1)

    def scaled(weights: NDArray[np.float64], scale: float) -> torch.Tensor:
        return torch.from_numpy((scale * weights).astype(np.float32))

    readout = Readout(
        row_weights=scaled(np.abs(row), space_scale),
        column_weights=scaled(np.abs(column), space_scale),
        channel_weights=scaled(channel, channel_scale),
        bias=torch.zeros(len(neurons)),
    )
    for space in (readout.row_weights, readout.column_weights):
        if space.shape[1] == 1:
            space.requires_grad_(False).fill_(1)
    return readout
