"""A fitted predictor on reduced tokens, and the readouts that it becomes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from stages.readouts.als.alternating import Factors
from stages.readouts.als.pca import Components
from stages.readouts.readout import Output, Readouts
from stages.training.epoch import Epoch


class Predictor(NamedTuple):
    """z = factors . tokens + bias; tensor bias of shape (n_neurons,)."""

    factors: Factors
    bias: torch.Tensor

    def __call__(self, reduced: torch.Tensor) -> torch.Tensor:
        """Tokens (n, n_rows, n_columns, n_components) to z (n, n_neurons)."""
        return self.factors.predict(reduced) + self.bias

    def of(self, neurons: torch.Tensor | slice) -> Predictor:
        """The predictor of some neurons."""
        return Predictor(self.factors.of(neurons), self.bias[neurons])

    def where(self, own: torch.Tensor, other: Predictor) -> Predictor:
        """The same of neurons that are `own`, a mask of shape (n_neurons,); else the other."""
        pairs = zip(self.factors, other.factors, strict=True)
        factors = Factors(*(torch.where(own[:, None], a, b) for a, b in pairs))
        return Predictor(factors, torch.where(own, self.bias, other.bias))


def centred(factors: Factors, mean_tokens: torch.Tensor, mean_responses: torch.Tensor) -> Predictor:
    """The predictor with these factors whose mean over trials is that of the responses."""
    return Predictor(factors, mean_responses - factors.predict(mean_tokens[None])[0])


def join(parts: Sequence[Predictor]) -> Predictor:
    """The predictors of several batches of neurons as one."""
    factors = zip(*(p.factors for p in parts), strict=True)
    bias = torch.cat([p.bias for p in parts])
    return Predictor(Factors(*(torch.cat(weights) for weights in factors)), bias)


class Path(NamedTuple):
    """Predictors of several penalties that share rows and columns.

    Parameters
    ----------
    row, column : tensor of shape (n_neurons, n_rows), (n_neurons, n_columns)
    channels : tensor of shape (n_neurons, n_choices, n_components)
    bias : tensor of shape (n_neurons, n_choices)
    """

    row: torch.Tensor
    column: torch.Tensor
    channels: torch.Tensor
    bias: torch.Tensor

    def of(self, neurons: slice) -> Path:
        """Those of some neurons."""
        return Path(*(values[neurons] for values in self))

    def __call__(self, reduced: torch.Tensor) -> torch.Tensor:
        """Tokens (n, n_rows, n_columns, n_components) to z (n, n_neurons, n_choices)."""
        space = Factors(self.row, self.column, self.row).space()
        by_place = reduced.flatten(1, 2).transpose(0, 1).flatten(1)
        pooled = (space @ by_place).view(len(space), len(reduced), -1)
        return torch.baddbmm(self.bias[:, None], pooled, self.channels.mT).transpose(0, 1)

    def pick(self, chosen: torch.Tensor) -> Predictor:
        """Each neuron's predictor of the choice it got; `chosen` of shape (n_neurons,)."""
        neuron = torch.arange(len(chosen), device=chosen.device)
        factors = Factors(self.row, self.column, self.channels[neuron, chosen])
        return Predictor(factors, self.bias[neuron, chosen])


def join_paths(parts: Sequence[Path]) -> Path:
    """The paths of several batches of neurons as one."""
    return Path(*(torch.cat(values) for values in zip(*parts, strict=True)))


def as_readouts(
    predictor: Predictor,
    components: Components,
    *,
    curve: Sequence[Epoch] = (),
    output: Output = "elu",
    penalty: torch.Tensor | None = None,
) -> Readouts:
    """The same predictor on the tokens' own channels, its scale shared equally by the factors.

    Rows and columns of a neuron without any weight are flat rather than zero, so that training on
    from there can move it.
    """
    f = predictor.factors
    dead = ((f.row.sum(dim=1) == 0) | (f.column.sum(dim=1) == 0))[:, None]
    row, column = (torch.where(dead, w.shape[1] ** -0.5, w) for w in (f.row, f.column))
    channel = torch.where(dead, 0, components.expand(f.channel))
    size = channel.norm(dim=1, keepdim=True)
    share = torch.where(size > 0, size, 1) ** (1 / 3)
    constant = Factors(row, column, torch.zeros_like(channel)).space() @ components.mean.flatten(
        0, 1
    )
    bias = predictor.bias - (channel * constant).sum(dim=1)
    return Readouts(
        row_weights=(row * share).cpu().numpy(),
        column_weights=(column * share).cpu().numpy(),
        channel_weights=(channel / share.square()).cpu().numpy(),
        bias=bias.cpu().numpy(),
        scale=torch.ones_like(bias).cpu().numpy(),
        curve=curve,
        output=output,
        penalty=None if penalty is None else penalty.cpu().numpy(),
    )
