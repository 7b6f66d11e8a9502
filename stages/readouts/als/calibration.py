"""Calibration of linear predictors: the slopes and offsets with which ELU + 1 makes rates of them.

Rates are ELU(slope * (l - centre) + offset) + 1 of a linear predictor l. The offset is the one with
which they have the mean of the responses on the training trials, however seldom a neuron responds.
The slope is chosen from a few, on validation trials, as penalties are: on the trials that l was
fitted to it is too good, and a slope fitted there is too steep.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from stages.readouts.als.memory import SLOPE_TRIALS
from stages.readouts.als.partition import neuron_batches
from stages.readouts.als.pca import ReducedTokens
from stages.readouts.als.predictor import Predictor
from stages.readouts.readout import poisson_loss

#: Slopes to choose from for the first step, which carries least squares over to rates.
FIRST_SLOPES = (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.2, 1.4)

#: And for the end: factors, and of what a neuron's predictor leaves unexplained, as a fraction of
#: what it explains, how much is taken off its slope.
LAST_SLOPES = (0.8, 0.9, 1.0, 1.1, 1.2, 1.4)
DOUBTS = (0.0, 0.005, 0.01, 0.02)

#: Evenly spread trials that suffice to compare slopes, and how many values stand for them.
COMPARED_TRIALS = 512
COMPARED_VALUES = 64

#: Newton steps of an offset at most, and the error of the mean rate before the last of them.
NEWTON_STEPS = 30
MEAN_TOLERANCE = 1e-4

#: Least mean of normalised rates: a neuron that never responds has no finite offset.
LEAST_MEAN = 1e-3

#: Least curvature of the loss, for the penalty of fine-tuning.
LEAST_CURVATURE = 1e-3


class Calibration:
    """Linear predictors of some neurons on evenly spread training trials.

    Parameters
    ----------
    predictor : Predictor
    tokens : ReducedTokens
        Of the training trials.
    mean : tensor of shape (n_neurons,)
        Of the responses.
    unit : tensor of shape (n_neurons,)
        Of the slopes.
    there : tensor of shape (n_trials, n_neurons), optional
        1 for the trials that are each neuron's own, 0 for others; then none is left out.
    """

    def __init__(
        self,
        predictor: Predictor,
        tokens: ReducedTokens,
        mean: torch.Tensor,
        *,
        unit: torch.Tensor,
        there: torch.Tensor | None = None,
    ) -> None:
        self.predictor = predictor
        self.there = there
        self.unit = unit
        self.mean = mean.clamp(min=LEAST_MEAN)
        self.batches = neuron_batches(len(mean))
        #: Every how many trials.
        self.every = 1 if there is not None else max(1, -(-tokens.shape[0] // SLOPE_TRIALS))
        parts = []
        for first, _, z in tokens:
            some = z[(-first) % self.every :: self.every]
            parts.append(torch.cat([predictor.of(part)(some) for part in self.batches], dim=1))
        self.around = torch.cat(parts)
        self.centre = self._mean(self.around)
        self.around -= self.centre
        # Of trials that are a neuron's own there may be few.
        step = 1 if there is not None else max(1, len(self.around) // COMPARED_TRIALS)
        self.few = equal_shares(self.around[::step], COMPARED_VALUES, there)

    def _mean(self, values: torch.Tensor, part: slice = slice(None)) -> torch.Tensor:
        """Over each neuron's own trials."""
        return own_mean(values, None if self.there is None else self.there[:, part])

    def slopes(self, responses: torch.Tensor) -> list[torch.Tensor]:
        """Slopes to choose from at the end, (n_neurons,) each; with the first, rates are the mean.

        A predictor of many weights explains noise of the trials that it was fitted to, the same
        amount whether it explains much or little beside: slopes are shrunk by it (the positive part
        of James & Stein 1961, Proc. Fourth Berkeley Symp. 1, 361-379). How much it is, all neurons'
        validation trials tell.
        """
        r = responses[:: self.every].to(self.around.device)
        around = r - r.nanmean(dim=0)
        both = self._mean((self.around * around).nan_to_num()).square()
        all_of = self._mean(self.around.square()) * around.square().nanmean(dim=0)
        explained = (both / all_of.clamp(min=1e-30)).clamp(min=1e-6, max=1)
        rest = (1 - explained) / explained
        shrunk = [(1 - doubt * rest).clamp(min=0) for doubt in DOUBTS]
        return [0 * rest, *(factor * each for factor in LAST_SLOPES for each in shrunk)]

    def roughly(self, factors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Slopes and shifts of the predictor, with the mean over few values.

        Parameters
        ----------
        factors : tensor of shape (n_neurons, n_choices)
            Slopes in their unit.

        Returns
        -------
        pair of tensor of shape (n_neurons, n_choices)
            Rates are ELU(slope * predictor + shift) + 1.
        """
        slopes = factors * self.unit[:, None]
        shifts = [
            offsets(slopes[part] * self.few[:, part, None], self.mean[part, None])
            for part in self.batches
        ]
        return slopes, torch.cat(shifts) - slopes * self.centre[:, None]

    def rates_of(self, factor: torch.Tensor) -> Predictor:
        """The predictor before ELU + 1, with slopes (n_neurons,) in their unit."""
        slope = factor * self.unit
        start = offsets(slope * self.few, self.mean)
        offset = torch.cat(
            [
                offsets(
                    slope[part] * self.around[:, part],
                    self.mean[part],
                    None if self.there is None else self.there[:, part],
                    start=start[part],
                )
                for part in self.batches
            ]
        )
        own = self.predictor.factors
        scaled = own._replace(channel=own.channel * slope[:, None])
        return Predictor(scaled, offset + slope * (self.predictor.bias - self.centre))

    def loss(self, responses: torch.Tensor, rates: Predictor, factor: torch.Tensor) -> torch.Tensor:
        """Mean Poisson loss of each neuron."""
        r = responses[:: self.every].to(rates.bias.device)
        losses = (
            self._mean(poisson_loss(z, r[:, part]), part)
            for part, z in self._before_rates(rates, factor)
        )
        return torch.cat(list(losses))

    def curvature(self, rates: Predictor, factor: torch.Tensor) -> torch.Tensor:
        """Mean expected second derivative of the Poisson loss, for each neuron."""
        curvatures = []
        for part, z in self._before_rates(rates, factor):
            mu = quick_rate(z)
            # derivative(mu) squared, by mu.
            expected = torch.minimum(mu, mu.clamp(min=1).reciprocal_())
            curvatures.append(self._mean(expected, part).clamp(min=LEAST_CURVATURE))
        return torch.cat(curvatures)

    def _before_rates(
        self, rates: Predictor, factor: torch.Tensor
    ) -> Iterator[tuple[slice, torch.Tensor]]:
        """For every batch of neurons, what ELU + 1 makes rates."""
        slope = factor * self.unit
        offset = rates.bias - slope * (self.predictor.bias - self.centre)
        for part in self.batches:
            yield part, slope[part] * self.around[:, part] + offset[part]


def own_mean(values: torch.Tensor, there: torch.Tensor | None) -> torch.Tensor:
    """Mean over trials, of shape (n_neurons,); over those that are `there`, where it says so."""
    if there is None:
        return values.mean(dim=0)
    return (values * there).sum(dim=0) / there.sum(dim=0).clamp(min=1)


def equal_shares(
    values: torch.Tensor, number: int, there: torch.Tensor | None = None
) -> torch.Tensor:
    """Means of so many equal shares of each neuron's values in order, (number, n_neurons).

    Parameters
    ----------
    values : tensor of shape (n_trials, n_neurons)
    there : tensor of shape (n_trials, n_neurons), optional
        As `Calibration` has it.
    """
    n_trials = len(values)
    count = values.new_full(values.shape[1:], n_trials, dtype=torch.float64)
    if there is not None:
        # Others come last.
        values = torch.where(there > 0, values, torch.inf)
        count = there.sum(dim=0, dtype=torch.float64).clamp(min=1)
    # NumPy sorts several times faster than torch on a CPU.
    ordered = torch.from_numpy(np.sort(values.T.cpu().numpy(), axis=1)).to(values.device).double()
    ordered = nn.functional.pad(ordered.masked_fill_(ordered.isinf(), 0), (0, 1))
    below = ordered.cumsum(dim=1) - ordered
    border = count[:, None] * torch.linspace(0, 1, number + 1, dtype=torch.float64).to(count.device)
    # A share may end within a value.
    whole = border.long()
    summed = below.gather(1, whole) + (border - whole) * ordered.gather(1, whole)
    return (summed.diff(dim=1) * (number / count[:, None])).T.to(values.dtype).contiguous()


def offsets(
    around: torch.Tensor,
    mean: torch.Tensor,
    there: torch.Tensor | None = None,
    *,
    start: torch.Tensor | None = None,
) -> torch.Tensor:
    """Offsets with which ELU(around + offset) + 1 has such a mean, tensor of shape (n_neurons, ..).

    Parameters
    ----------
    around : tensor of shape (n_trials, n_neurons, ..)
        Of mean zero.
    mean : tensor of shape (n_neurons, ..)
        Positive.
    there : tensor of shape (n_trials, n_neurons), optional
        As `Calibration` has it.
    start : tensor of shape (n_neurons, ..), optional
        A guess.
    """
    # The rate is convex: this offset is too large. After one step every one is, and steps only
    # lower it.
    offset = torch.where(mean > 1, mean - 1, mean.log()) if start is None else start
    for _ in range(NEWTON_STEPS):
        mu = quick_rate(around + offset)
        above = own_mean(mu, there) - mean
        offset = offset - above / own_mean(derivative(mu), there)
        # The error after this step is about its square: others of the batch change nothing.
        if bool((above.abs() <= MEAN_TOLERANCE * mean).all()):
            break
    return offset


def quick_rate(z: torch.Tensor) -> torch.Tensor:
    """ELU(z) + 1, as `stages.readouts.readout.rate` has it, in a third of the time.

    exp(z) is nowhere below its tangent z + 1. Only at 0 its gradient would be another.
    """
    low = z.clamp(max=0).exp_()
    return torch.maximum(low, z + 1, out=low)


def derivative(mu: torch.Tensor) -> torch.Tensor:
    """Of the rate mu = ELU(z) + 1 in z: itself below zero, else 1."""
    return mu.clamp(max=1)
