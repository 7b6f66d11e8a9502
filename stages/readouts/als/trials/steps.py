"""Steps of Fisher scoring: Poisson readouts from least squares, on what neurons pool of own trials.

A step replaces the loss around the current predictor z by a parabola of one curvature per neuron.
Its minimum is a least-squares fit, under the same penalty, to the responses
z - loss'(z) / curvature: one that the sums over trials and the normal equations serve.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import torch

from stages.readouts.als.calibration import quick_rate
from stages.readouts.als.pca import ReducedTokens
from stages.readouts.als.predictor import Predictor, join
from stages.readouts.als.trials.pooled import (
    PooledResponses,
    PooledSums,
    batches_of,
    own_trials,
)

#: Steps after the least-squares fit; a third gains nothing on held-out trials.
STEPS = 2

#: What the parabola's curvature is to the mean of the loss's: more is slower and safer.
CAUTION = 1.2


def parabola_targets(
    z: torch.Tensor, responses: torch.Tensor, curvature: torch.Tensor
) -> torch.Tensor:
    """The responses of the least-squares fit that stands for the loss around a predictor z."""
    mu = quick_rate(z)
    # The gradient is (mu - responses) derivative(mu) / mu.
    gradient = (mu - responses).div_(mu.clamp_(min=1))
    return gradient.div_(-CAUTION * curvature).add_(z)


@dataclass(frozen=True)
class BatchedSums:
    """Sums over trials of all batches of a group."""

    batches: Sequence[PooledSums]

    def __add__(self, other: BatchedSums) -> BatchedSums:
        """The sums over both."""
        pairs = zip(self.batches, other.batches, strict=True)
        return BatchedSums([one + more for one, more in pairs])


class TrialSteps:
    """What the end of a fit asks of a group's trials, as `StatisticSteps`.

    Parameters
    ----------
    training, validation : pair of ReducedTokens and tensor
        Tokens, and responses of shape (n_trials, n_neurons), NaN where missing.
    batch : int
        Neurons that pool at a time.
    """

    def __init__(
        self,
        training: tuple[ReducedTokens, torch.Tensor],
        validation: tuple[ReducedTokens, torch.Tensor],
        batch: int,
    ) -> None:
        self.trials, self.batch = (training, validation), batch
        #: Of pooled tokens: rows and columns stay. By kind of trials and a batch's first neuron.
        self._products: dict[tuple[bool, int], torch.Tensor] = {}

    @cached_property
    def there(self) -> torch.Tensor | None:
        """Each neuron's own training trials, from `own_trials`."""
        tokens, responses = self.trials[0]
        return own_trials(responses, tokens.components.basis.device)

    def sums(
        self, predictor: Predictor, curvature: torch.Tensor, *, held_out: bool = False
    ) -> BatchedSums:
        """Sums over trials, with the targets of a parabola for responses."""

        def responses_of(part: slice, own: torch.Tensor) -> PooledResponses:
            factors, bias = predictor.of(part)
            return partial(_targets, factors.channel, bias, own, curvature[part])

        return self._sums(predictor, responses_of, held_out)

    def sums_of_responses(self, predictor: Predictor, *, held_out: bool = False) -> BatchedSums:
        """Sums over trials, with the responses themselves."""
        return self._sums(predictor, lambda _, own: lambda some, _: own[some], held_out)

    def _sums(
        self,
        predictor: Predictor,
        responses_of: Callable[[slice, torch.Tensor], PooledResponses],
        held_out: bool,
    ) -> BatchedSums:
        tokens, responses = self.trials[held_out]
        found = []
        for part in batches_of(len(predictor.bias), self.batch):
            own = responses[:, part].to(predictor.bias.device)
            sums = PooledSums.of(
                tokens,
                predictor.factors.of(part).space(),
                tokens.shape[3],
                own_trials(own, own.device),
                responses_of(part, own),
                products=self._products.get((held_out, part.start)),
            )
            self._products[held_out, part.start] = sums.products
            found.append(sums)
        return BatchedSums(found)

    def step(
        self,
        predictor: Predictor,
        sums: BatchedSums,
        penalty: torch.Tensor,
        *,
        refit: bool = False,
    ) -> Predictor:
        """The predictor with other channels: the least-squares fit to what was summed."""
        moved = []
        parts = batches_of(len(penalty), self.batch)
        for part, own in zip(parts, sums.batches, strict=True):
            factors = predictor.factors.of(part)
            channel, _ = own.normal(factors).solve(penalty[part])
            bias = own.mean_responses - (channel * own.mean_tokens).sum(dim=1)
            moved.append(Predictor(factors._replace(channel=channel), bias))
        return join(moved)


def _targets(
    channel: torch.Tensor,
    bias: torch.Tensor,
    responses: torch.Tensor,
    curvature: torch.Tensor,
    some: slice,
    pooled: torch.Tensor,
) -> torch.Tensor:
    """Responses of the least-squares fit that stands for the loss around a predictor."""
    z = torch.bmm(pooled, channel[:, :, None])[:, :, 0].T + bias
    return parabola_targets(z, responses[some], curvature)
