"""Poisson readouts from least squares: calibration, and steps of Fisher scoring.

Rates are ELU(slope * (l - centre) + offset) + 1 of a linear predictor l. The offset is the one with
which they have the mean of the responses on the training trials, however seldom a neuron responds.
The slope is chosen from a few, on validation trials, as penalties are: on the trials that l was
fitted to it is too good, and a slope fitted there is too steep.

A step replaces the loss around the current predictor z by a parabola of one curvature per neuron.
Its minimum is a least-squares fit, under the same penalty, to the responses
z - loss'(z) / curvature: one that the sums over trials and the normal equations serve.
"""

from __future__ import annotations

import math

import torch

from stages.readouts.als.alternating import AlternatingLeastSquares
from stages.readouts.als.memory import SLOPE_TRIALS
from stages.readouts.als.partition import neuron_batches
from stages.readouts.als.pca import ReducedTokens
from stages.readouts.als.predictor import Predictor, centred, join
from stages.readouts.als.sufficient_statistics import Statistics, TrialSums
from stages.readouts.readout import poisson_loss
from stages.readouts.solver_settings import ALSSettings

#: Steps after the least-squares fit; a third gains nothing on held-out trials.
STEPS = 2

#: What the parabola's curvature is to the mean of the loss's: more is slower and safer.
CAUTION = 1.2

#: Slopes to choose from for the first step, which carries least squares over to rates.
FIRST_SLOPES = (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.2, 1.4)

#: And for the end: factors, and of what a neuron's predictor leaves unexplained, as a fraction of
#: what it explains, how much is taken off its slope.
LAST_SLOPES = (0.8, 0.9, 1.0, 1.1, 1.2)
DOUBTS = (0.0, 0.005, 0.01, 0.02)

#: Evenly spread trials that suffice to compare slopes.
COMPARED_TRIALS = 512

#: Newton steps of an offset at most, and the error of the mean rate at which they end.
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

    def rates_of(self, factor: torch.Tensor, *, roughly: bool = False) -> Predictor:
        """The predictor before ELU + 1, with slopes (n_neurons,) in their unit.

        Parameters
        ----------
        roughly : bool
            With the mean over few trials.
        """
        slope = factor * self.unit
        # Of trials that are a neuron's own there may be few.
        few = roughly and self.there is None
        some = slice(None, None, max(1, len(self.around) // COMPARED_TRIALS) if few else 1)
        around = self.around[some]
        offset = torch.cat(
            [
                offsets(
                    slope[part] * around[:, part],
                    self.mean[part],
                    None if self.there is None else self.there[:, part],
                )
                for part in self.batches
            ]
        )
        own = self.predictor.factors
        scaled = own._replace(channel=own.channel * slope[:, None])
        return Predictor(scaled, offset + slope * (self.predictor.bias - self.centre))

    def loss_and_curvature(
        self, responses: torch.Tensor, rates: Predictor, factor: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean Poisson loss, and its mean expected second derivative, for each neuron."""
        slope = factor * self.unit
        offset = rates.bias - slope * (self.predictor.bias - self.centre)
        r = responses[:: self.every].to(offset.device)
        losses, curvatures = [], []
        for part in self.batches:
            z = slope[part] * self.around[:, part] + offset[part]
            losses.append(self._mean(poisson_loss(z, r[:, part]), part))
            mu = quick_rate(z)
            curvature = derivative(mu).square() / mu.clamp(min=1e-30)
            curvatures.append(self._mean(curvature, part).clamp(min=LEAST_CURVATURE))
        return torch.cat(losses), torch.cat(curvatures)


def own_mean(values: torch.Tensor, there: torch.Tensor | None) -> torch.Tensor:
    """Mean over trials, of shape (n_neurons,); over those that are `there`, where it says so."""
    if there is None:
        return values.mean(dim=0)
    return (values * there).sum(dim=0) / there.sum(dim=0).clamp(min=1)


def offsets(
    around: torch.Tensor, mean: torch.Tensor, there: torch.Tensor | None = None
) -> torch.Tensor:
    """Offsets with which ELU(around + offset) + 1 has such a mean, tensor of shape (n_neurons,).

    Parameters
    ----------
    around : tensor of shape (n_trials, n_neurons)
        Of mean zero.
    mean : tensor of shape (n_neurons,)
        Positive.
    there : tensor of shape (n_trials, n_neurons), optional
        As `Calibration` has it.
    """
    # The rate is convex, so that this offset is too large, and Newton's steps only lower it.
    offset = torch.where(mean > 1, mean - 1, mean.log())
    for _ in range(NEWTON_STEPS):
        z = around + offset
        mu = quick_rate(z)
        above = own_mean(mu, there) - mean
        if bool((above <= MEAN_TOLERANCE * mean).all()):
            break
        offset = offset - above / own_mean(derivative(mu), there)
    return offset


def quick_rate(z: torch.Tensor) -> torch.Tensor:
    """ELU(z) + 1, as `stages.readouts.readout.rate` has it, in a third of the time.

    exp(z) is nowhere below its tangent z + 1. Only at 0 its gradient would be another.
    """
    return torch.maximum(z + 1, torch.exp(z.clamp(max=0)))


def derivative(mu: torch.Tensor) -> torch.Tensor:
    """Of the rate mu = ELU(z) + 1 in z: itself below zero, else 1."""
    return mu.clamp(max=1)


def parabola_targets(
    z: torch.Tensor, responses: torch.Tensor, curvature: torch.Tensor
) -> torch.Tensor:
    """The responses of the least-squares fit that stands for the loss around a predictor z."""
    mu = quick_rate(z)
    gradient = (mu - responses) * derivative(mu) / mu.clamp(min=1e-30)
    return z - gradient / (CAUTION * curvature)


def sum_targets(
    predictor: Predictor, curvature: torch.Tensor, tokens: ReducedTokens, responses: torch.Tensor
) -> TrialSums:
    """Sums over trials, with the least-squares targets for responses.

    Parameters
    ----------
    curvature : tensor of shape (n_neurons,)
        Mean second derivative of the loss.
    responses : tensor of shape (n_trials, n_neurons)
    """
    grid = tokens.shape[1:]
    device = predictor.bias.device
    weights = predictor.factors.weights()
    total = torch.zeros(len(weights), dtype=torch.float64, device=device)
    cross = torch.zeros_like(weights)
    every = torch.zeros(math.prod(grid), device=device)
    for first, last, reduced in tokens:
        flat = reduced.flatten(1)
        every += flat.sum(dim=0)
        for part in neuron_batches(len(weights)):
            z = torch.addmm(predictor.bias[part], flat, weights[part].T)
            r = responses[first:last, part].to(device)
            target = parabola_targets(z, r, curvature[part])
            total[part] += target.double().sum(dim=0)
            cross[part].addmm_(target.T, flat)
    return TrialSums(len(responses), every.view(grid), total, cross.view(-1, *grid))


def step(
    predictor: Predictor, statistics: Statistics, penalty: torch.Tensor, settings: ALSSettings
) -> Predictor:
    """The predictor with other channels: the minimum of the parabolas that `sum_targets` summed.

    Rows and columns stay: moving them gains on one set of held-out images and loses on another.

    Parameters
    ----------
    penalty : tensor of shape (n_neurons,)
        Of the least-squares fit.
    """
    als = AlternatingLeastSquares(statistics.gram, statistics.mean_tokens.shape, settings)
    moved = []
    for part in neuron_batches(len(penalty)):
        own, factors = statistics.of(part), predictor.factors.of(part)
        ridge = penalty[part] / CAUTION
        channel, _ = als.channels(own.cross, factors, ridge)
        after = factors._replace(channel=channel)
        moved.append(centred(after, own.mean_tokens, own.mean_responses))
    return join(moved)
