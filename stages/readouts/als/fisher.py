"""Steps of Fisher scoring: from a predictor of rates to the channels that fit its Poisson loss.

Around the current predictor z the loss is replaced by a parabola of one curvature per neuron. Its
minimum is a least-squares fit, under the same penalty, to the responses z - loss'(z) / curvature:
one that the sums over trials and the normal equations of least squares serve.
"""

from __future__ import annotations

import math

import torch

from stages.readouts.als.alternating import AlternatingLeastSquares
from stages.readouts.als.calibrate import derivative
from stages.readouts.als.partition import neuron_batches
from stages.readouts.als.pca import ReducedTokens
from stages.readouts.als.predictor import Predictor, centred, join
from stages.readouts.als.sufficient_statistics import Statistics, TrialSums
from stages.readouts.readout import rate
from stages.readouts.solver_settings import ALSSettings

#: Steps after the least-squares fit; a third gains nothing on held-out trials.
STEPS = 2

#: What the parabola's curvature is to the mean of the loss's: more is slower and safer.
CAUTION = 1.2


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
            mu = rate(z)
            gradient = (mu - r) * derivative(z, mu) / mu.clamp(min=1e-30)
            target = z - gradient / (CAUTION * curvature[part])
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
    penalty : tensor of shape (n_neurons, n_components)
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
