"""Which of several fits each neuron gets: its own held-out errors, shrunk to the population's."""

from __future__ import annotations

from collections.abc import Sequence

import torch


class ErrorMoments:
    """First and second moments, over held-out trials, of the squared errors of several fits.

    From them follow the mean advantage of one fit over another and its standard error, without the
    errors of all trials being kept.
    """

    def __init__(self, n_neurons: int, n_choices: int) -> None:
        self.count = torch.zeros(n_neurons, 1, dtype=torch.float64)
        self.total = torch.zeros(n_neurons, n_choices, dtype=torch.float64)
        self.products = torch.zeros(n_neurons, n_choices, n_choices, dtype=torch.float64)

    def add(self, neurons: slice, errors: torch.Tensor) -> None:
        """Take in more trials of some neurons.

        Parameters
        ----------
        errors : tensor of shape (n_trials, n_neurons, n_choices)
            Squared errors.
        """
        by_neuron = errors.transpose(0, 1).double().cpu()
        self.count[neurons] += errors.shape[0]
        self.total[neurons] += by_neuron.sum(dim=1)
        self.products[neurons] += by_neuron.transpose(1, 2) @ by_neuron

    def advantage(self, reference: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean error of the reference minus that of each choice, and the variance of this mean.

        Returns
        -------
        tensor of shape (n_neurons, n_choices), twice
        """
        mean = (self.total[:, [reference]] - self.total) / self.count
        square = self.products.diagonal(dim1=1, dim2=2)
        second = square[:, [reference]] - 2 * self.products[:, reference] + square
        variance = (second / self.count - mean.square()).clamp(min=0)
        return mean, variance / (self.count - 1).clamp(min=1)


def concatenate(parts: Sequence[ErrorMoments]) -> ErrorMoments:
    """The moments of several groups of neurons, one after the other."""
    joined = ErrorMoments(0, parts[0].total.shape[1])
    joined.count = torch.cat([each.count for each in parts])
    joined.total = torch.cat([each.total for each in parts])
    joined.products = torch.cat([each.products for each in parts])
    return joined


def shared_choice(moments: ErrorMoments, variances: torch.Tensor) -> int:
    """The one choice with the highest mean variance explained; 0 where no neuron varies."""
    voting = variances > 0
    unexplained = moments.total[voting] / variances[voting, None].double()
    return int(unexplained.sum(dim=0).argmin())


def choose(
    moments: ErrorMoments,
    variances: torch.Tensor,
    explained: torch.Tensor,
    *,
    how: str = "shrunk",
) -> torch.Tensor:
    """Index of each neuron's choice, by an empirical Bayes estimate of what it would gain.

    A neuron's advantage of a choice over the shared one is measured with an error whose variance is
    known from the trials. In the population, advantages are taken as normal around a line in the
    logarithm of what training explains of a neuron: noisy neurons want other penalties than
    reliable ones. What of the spread around the line the measurement errors do not account for is
    real, and each neuron's measurement is shrunk towards the line accordingly.

    Parameters
    ----------
    variances : tensor of shape (n_neurons,)
        Of the held-out responses; neurons that do not vary get the shared choice and do not vote.
    explained : tensor of shape (n_neurons, n_choices)
        Fraction of the training responses' variance that each fit explains.
    how : str
        "shrunk" as above; "shared" for the one choice that is best on average; "own" for each
        neuron's best as measured.

    Returns
    -------
    tensor of shape (n_neurons,)
    """
    variances = variances.double().cpu()
    voting = variances > 0
    shared = shared_choice(moments, variances)
    same = torch.full(variances.shape, shared, dtype=torch.long)
    if how == "shared" or not bool(voting.any()):
        return same
    unit = variances[:, None].clamp(min=1e-30)
    measured, error = moments.advantage(shared)
    measured, error = measured / unit, error / unit.square()
    if how == "shrunk":
        trait = explained[:, shared].double().cpu().clamp(min=1e-4).log()
        expected = _line(trait, measured, error, voting)
        excess = (measured - expected).square() - error
        spread = excess[voting].mean(dim=0).clamp(min=0)
        weight = spread / (spread + error).clamp(min=1e-30)
        measured = expected + weight * (measured - expected)
        measured[:, shared] = 0
    return torch.where(voting, measured.argmax(dim=1), same)


def _line(
    trait: torch.Tensor, measured: torch.Tensor, error: torch.Tensor, voting: torch.Tensor
) -> torch.Tensor:
    """What a straight line in a neuron's trait predicts of each column, fitted by precision."""
    typical = error[voting].median(dim=0).values
    weight = torch.where(voting[:, None], 1 / (error + typical + 1e-12), 0)
    weight = weight / weight.sum(dim=0)
    x = trait[:, None] - (weight * trait[:, None]).sum(dim=0)
    centre = (weight * measured).sum(dim=0)
    slope = (weight * x * measured).sum(dim=0) / (weight * x.square()).sum(dim=0).clamp(min=1e-9)
    return centre + slope * x
