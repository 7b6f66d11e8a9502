"""Poisson polishing: a least-squares predictor becomes the shared readout.

First come a slope and an offset per neuron, which carry the predictor over to ELU + 1.
Polishing takes Fisher-scoring steps whose metric is the least squares' own: around the current
predictor z the Poisson loss is replaced by a parabola of one curvature per neuron, whose minimum is
a least-squares fit, under the same penalty, to the responses z - loss'(z) / curvature. A step costs
two matrix products with the tokens, and settles rows, columns and channels alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from stages.readouts.als.alternating import AlternatingLeastSquares, Factors
from stages.readouts.als.memory import SLOPE_TRIALS
from stages.readouts.als.pca import ReducedTokens
from stages.readouts.als.predictor import Predictor, centred, join, pick
from stages.readouts.readout import poisson_loss, rate

#: What the parabola's curvature is to the mean of the loss's: more is slower and safer.
CAUTION = 1.2

#: Newton steps of slope and offset at most, and how often each may be shortened.
NEWTON_STEPS = 15
SHORTER_STEPS = 4


class GroupTrials(NamedTuple):
    """The training trials of a group of neurons.

    Parameters
    ----------
    tokens : ReducedTokens
    mean_tokens : tensor of shape (n_rows, n_columns, n_components)
    responses : tensor of shape (n_trials, n_neurons)
    batches : sequence of slice
        The neurons that are computed at a time.
    """

    tokens: ReducedTokens
    mean_tokens: torch.Tensor
    responses: torch.Tensor
    batches: Sequence[slice]


def start(factors: Factors, trials: GroupTrials) -> tuple[Predictor, torch.Tensor]:
    """Slope and offset on top of least-squares factors, and the loss's mean curvature there."""
    every = max(1, -(-len(trials.responses) // SLOPE_TRIALS))

    def predicted(first: int, tokens: torch.Tensor) -> torch.Tensor:
        some = tokens[(-first) % every :: every]
        return torch.cat([factors.of(part).predict(some) for part in trials.batches], dim=1)

    z = torch.cat([predicted(first, tokens) for first, _, tokens in trials.tokens])
    r = trials.responses[::every].to(factors.row.device)
    slopes, offsets, curvatures = [], [], []
    for part in trials.batches:
        slope, offset = _fit_slope_and_offset(z[:, part], r[:, part])
        _, curvature = _derivatives(slope * z[:, part] + offset, r[:, part])
        slopes.append(slope)
        offsets.append(offset)
        curvatures.append(curvature.mean(dim=0))
    scaled = factors._replace(channel=factors.channel * torch.cat(slopes)[:, None])
    return Predictor(scaled, torch.cat(offsets)), torch.cat(curvatures).clamp(min=1e-3)


def polish(
    als: AlternatingLeastSquares,
    first: Predictor,
    curvature: torch.Tensor,
    trials: GroupTrials,
    *,
    penalty: torch.Tensor,
    rounds: int,
) -> Iterator[tuple[Predictor, torch.Tensor]]:
    """Each step's predictor, of which no neuron's penalised training loss is above the last's.

    Parameters
    ----------
    first : Predictor
        Where to start.
    curvature : tensor of shape (n_neurons,)
        Mean second derivative of the loss there.
    penalty : tensor of shape (n_neurons,)
        Of the least-squares fit.

    Yields
    ------
    predictor, loss
        `loss`, tensor of shape (n_neurons,), is the mean Poisson loss of the predictor that the
        step started from.
    """
    best = candidate = first
    lowest = torch.full_like(curvature, torch.inf)
    caution = torch.full_like(curvature, CAUTION)
    for _ in range(rounds):
        loss, centre, cross = _parabola(candidate, curvature * caution, trials)
        f = candidate.factors
        weight = f.channel.square().sum(dim=1) * f.space().square().sum(dim=1)
        objective = loss + curvature * penalty / 2 * weight
        rose = objective > lowest + 1e-6
        best = pick([candidate, best], rose.long())
        lowest = torch.minimum(lowest, objective)
        moved = []
        for part in trials.batches:
            factors, _ = als.solve(cross[part], f.of(part), penalty[part] / caution[part])
            moved.append(centred(factors, trials.mean_tokens, centre[part]))
        # A step that went too far is taken back, and taken again with more caution.
        caution = torch.where(rose, 2 * caution, caution)
        candidate = pick([join(moved), best], rose.long())
        yield candidate, loss


def _parabola(
    predictor: Predictor, curvature: torch.Tensor, trials: GroupTrials
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mean loss, and mean and token covariance of the responses that a parabola stands for."""
    n_trials, n_neurons = trials.responses.shape
    device = predictor.bias.device
    weights = predictor.factors.weights()
    loss = torch.zeros(n_neurons, device=device)
    total = torch.zeros(n_neurons, device=device)
    cross = torch.zeros_like(weights)
    for first, last, tokens in trials.tokens:
        flat = tokens.flatten(1)
        for part in trials.batches:
            z = torch.addmm(predictor.bias[part], flat, weights[part].T)
            r = trials.responses[first:last, part].to(device)
            loss[part] += poisson_loss(z, r).sum(dim=0)
            gradient, _ = _derivatives(z, r)
            target = z - gradient / curvature[part]
            total[part] += target.sum(dim=0)
            cross[part].addmm_(target.T, flat)
    centre = total / n_trials
    cross = cross / n_trials - centre[:, None] * trials.mean_tokens.flatten()
    return loss / n_trials, centre, cross.view(n_neurons, *trials.mean_tokens.shape)


def _derivatives(z: torch.Tensor, responses: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """First derivative in z of the Poisson loss, and its expected second derivative."""
    mu = rate(z)
    above = z > 0
    slope = torch.where(above, 1.0, mu)
    return (mu - responses) * slope / mu.clamp(min=1e-30), slope.square() / mu.clamp(min=1e-30)


def _fit_slope_and_offset(
    z: torch.Tensor, responses: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Slope >= 0 and offset per neuron that minimise the Poisson loss of slope * z + offset."""
    # The loss is convex in both: Newton steps with the expected curvature, shortened where the
    # loss would rise.
    mean = responses.mean(dim=0).clamp(min=1e-3)
    offset = torch.where(mean > 1, mean - 1, mean.log())
    centre = z.mean(dim=0)
    spread = z.std(dim=0, correction=0)
    # A predictor that does not vary has no slope to speak of.
    flat = spread <= 1e-6 * centre.abs() + 1e-12
    unit = torch.where(flat, 0.0, (z - centre) / torch.where(flat, 1.0, spread))
    slope = torch.zeros_like(offset)
    loss = poisson_loss(offset.expand_as(unit), responses).mean(dim=0)
    for _ in range(NEWTON_STEPS):
        gradient, curvature = _derivatives(slope * unit + offset, responses)
        g0, g1 = gradient.mean(dim=0), (gradient * unit).mean(dim=0)
        h00 = curvature.mean(dim=0) + 1e-6
        h01 = (curvature * unit).mean(dim=0)
        h11 = (curvature * unit.square()).mean(dim=0) + 1e-6
        determinant = (h00 * h11 - h01.square()).clamp(min=1e-12)
        down0 = (h11 * g0 - h01 * g1) / determinant
        down1 = (h00 * g1 - h01 * g0) / determinant
        size = torch.ones_like(loss)
        for _ in range(SHORTER_STEPS):
            new_slope = (slope - size * down1).clamp(min=0)
            new_offset = offset - size * down0
            new_loss = poisson_loss(new_slope * unit + new_offset, responses).mean(dim=0)
            better = new_loss < loss
            if bool(better.all()):
                break
            size = torch.where(better, size, size / 4)
        gained = torch.where(better, loss - new_loss, 0.0)
        slope = torch.where(better, new_slope, slope)
        offset = torch.where(better, new_offset, offset)
        loss = torch.where(better, new_loss, loss)
        if bool((gained <= 1e-6).all()):
            break
    slope = torch.where(flat, 0.0, slope / torch.where(flat, 1.0, spread))
    return slope, offset - slope * centre
