"""Choice of a penalty for each neuron: its held-out errors, shrunk to the population's."""

from __future__ import annotations

from collections.abc import Sequence

import torch

#: How much of its own difference from the population a neuron may be credited with.
SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)

#: By how much of its variance a neuron must be predicted worse than by nothing, to be left so.
WORSE = 0.01


class HeldOutErrors:
    """Summed squared errors of several fits, over either half of the held-out trials.

    Attributes
    ----------
    variances : tensor of shape (n_neurons,)
        Of the held-out responses.
    complete : bool
        Whether no response is missing.
    count : tensor of shape (2, n_neurons, 1)
        Trials in each half: those of even and of odd number.
    total : tensor of shape (2, n_neurons, n_choices)
    """

    def __init__(self, variances: torch.Tensor, n_choices: int, *, complete: bool = False) -> None:
        self.variances = variances
        self.complete = complete
        self.count = torch.zeros(2, len(variances), 1, dtype=torch.float64)
        self.total = torch.zeros(2, len(variances), n_choices, dtype=torch.float64)

    def add(self, neurons: slice, errors: torch.Tensor, first: int) -> None:
        """Take in more trials of some neurons, one after the other.

        Parameters
        ----------
        errors : tensor of shape (n_trials, n_neurons, n_choices)
            Squared errors; NaN where a response is missing.
        first : int
            Number of the first trial, whatever part it came in.
        """
        for start in (0, 1):
            part = errors[start::2]
            half = (first + start) % 2
            if self.complete:
                self.count[half, neurons] += len(part)
            else:
                there = ~part[..., :1].isnan()
                self.count[half, neurons] += there.sum(dim=0).cpu()
                part = torch.where(there, part, 0)
            self.total[half, neurons] += part.double().sum(dim=0).cpu()

    def mean(self) -> torch.Tensor:
        """Mean over all trials, tensor of shape (n_neurons, n_choices)."""
        return self.total.sum(dim=0) / self.count.sum(dim=0).clamp(min=1)


def concatenate(parts: Sequence[HeldOutErrors]) -> HeldOutErrors:
    """The errors of several groups of neurons, one after the other."""
    variances = torch.cat([each.variances for each in parts])
    joined = HeldOutErrors(variances, parts[0].total.shape[2])
    joined.count = torch.cat([each.count for each in parts], dim=1)
    joined.total = torch.cat([each.total for each in parts], dim=1)
    return joined


def choose(
    errors: HeldOutErrors, *, how: str = "shrunk", without: int | None = None
) -> torch.Tensor:
    """Index of each neuron's choice; neurons that do not vary get the shared one, and do not vote.

    Single trials are noisy: of many choices a neuron's best as measured is seldom its best. So what
    each choice gains a neuron is taken to be the population's mean gain plus some share of what the
    neuron's own measurement adds to it. The share is the one with which choices made on half of the
    trials serve the other half best, over the population and both ways round, by what this gains
    beyond its standard error; with none, all neurons get the same.

    Parameters
    ----------
    how : str
        "shrunk" as above; "shared" for the one choice that is best on average; "own" for each
        neuron's best as measured.
    without : int, optional
        Position of the choice that predicts nothing. A neuron gets it, too, whose choice is worse
        on either half of the trials, and by more than `WORSE`; not where all get the same.

    Returns
    -------
    tensor of shape (n_neurons,)
    """
    variances = errors.variances.double().cpu()
    voting = variances > 0
    unit = torch.where(voting, variances, torch.inf)[:, None]
    whole = errors.mean() / unit
    shared = int(whole.sum(dim=0).argmin())
    same = torch.full(variances.shape, shared, dtype=torch.long)
    if how == "shared" or not bool(voting.any()):
        return same
    halves = list(errors.total / errors.count.clamp(min=1) / unit)
    if how == "own":
        return torch.where(voting, whole.argmin(dim=1), same)
    served = torch.stack([_served(halves, voting, share) for share in SHARES])
    gain = (served[0] - served)[:, voting]
    # No more than what stands out from chance.
    doubt = gain.std(dim=1, correction=0) / gain.shape[1] ** 0.5
    best = SHARES[int((gain.mean(dim=1) - doubt).argmax())]
    # Half the trials measure with twice the variance: signal / (signal + 2 noise) is `best`, so
    # signal / (signal + noise), which all of them deserve, is more.
    chosen = torch.where(voting, _chosen(whole, voting, 2 * best / (1 + best)), same)
    if without is None:
        return chosen
    gained = [half[:, without] - half.gather(1, chosen[:, None])[:, 0] for half in halves]
    worse = (torch.stack(gained) < 0).all(dim=0) & (sum(gained) < -2 * WORSE)
    return torch.where(voting & worse, without, chosen)


def _served(halves: Sequence[torch.Tensor], voting: torch.Tensor, share: float) -> torch.Tensor:
    """Errors of either half under the choices made on the other, tensor of shape (n_neurons,)."""
    errors = torch.zeros(len(voting), dtype=torch.float64)
    for own, other in (halves, reversed(halves)):
        errors += other.gather(1, _chosen(own, voting, share)[:, None])[:, 0]
    return errors


def _chosen(unexplained: torch.Tensor, voting: torch.Tensor, share: float) -> torch.Tensor:
    """Each neuron's choice: the population's, but for a share of what its own errors say."""
    # A neuron's errors have a level of their own, which says nothing of the choice.
    relative = unexplained - unexplained.mean(dim=1, keepdim=True)
    everyone = relative[voting].mean(dim=0)
    return (everyone + share * (relative - everyone)).argmin(dim=1)
