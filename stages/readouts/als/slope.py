"""Two parameters per neuron that carry a least-squares predictor over to ELU + 1."""

from __future__ import annotations

import torch

from stages.readouts.readout import poisson_loss, rate

#: Newton steps at most, and how often each may be shortened.
NEWTON_STEPS = 15
SHORTER_STEPS = 4


def derivatives(z: torch.Tensor, responses: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """First derivative in z of the Poisson loss, and its expected second derivative."""
    mu = rate(z)
    above = z > 0
    slope = torch.where(above, 1.0, mu)
    return (mu - responses) * slope / mu.clamp(min=1e-30), slope.square() / mu.clamp(min=1e-30)


def fit_slope_and_offset(
    z: torch.Tensor, responses: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Slope >= 0 and offset per neuron that minimise the Poisson loss of slope * z + offset.

    The loss is convex in both; Newton steps with the expected curvature, shortened where the loss
    would rise.

    Parameters
    ----------
    z, responses : tensor of shape (n_trials, n_neurons)

    Returns
    -------
    tensor of shape (n_neurons,), twice
    """
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
        gradient, curvature = derivatives(slope * unit + offset, responses)
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
