"""Steps of Fisher scoring of a group of neurons, on what each pools of its own trials."""

from __future__ import annotations

from typing import Any

import torch

from stages.readouts.als.pca import ReducedTokens
from stages.readouts.als.poisson import CAUTION, parabola_targets
from stages.readouts.als.predictor import AnyPredictor, PooledPredictor, Predictor
from stages.readouts.als.trials.pooled import PooledSums, PooledTokens, own_trials


class TrialSteps:
    """What the end of a fit asks of a group's trials; as `StatisticSteps`.

    Parameters
    ----------
    linear : Predictor
        Where to begin; its rows and columns stay.
    training, validation : pair of ReducedTokens and tensor
        Tokens, and responses of shape (n_trials, n_neurons), NaN where missing.
    """

    def __init__(
        self,
        linear: Predictor,
        training: tuple[ReducedTokens, torch.Tensor],
        validation: tuple[ReducedTokens, torch.Tensor],
    ) -> None:
        space = linear.factors.space()
        self.linear = PooledPredictor(*linear)
        self.responses = {}
        self.tokens = {}
        for held_out, (tokens, responses) in ((False, training), (True, validation)):
            own = responses.to(space.device)
            there = own_trials(own, space.device)
            self.responses[held_out] = own
            self.tokens[held_out] = PooledTokens.of(tokens, space, tokens.shape[3], there)

    @property
    def training(self) -> PooledTokens:
        """What is pooled of the training trials."""
        return self.tokens[False]

    @property
    def validation(self) -> PooledTokens:
        """What is pooled of the validation trials."""
        return self.tokens[True]

    @property
    def there(self) -> torch.Tensor | None:
        """Each neuron's own training trials, from `own_trials`."""
        return self.training.there

    def sums(
        self, predictor: AnyPredictor, curvature: torch.Tensor, *, held_out: bool = False
    ) -> PooledSums:
        """Sums over trials, with the targets of a parabola for responses."""
        tokens, responses = self.tokens[held_out], self.responses[held_out]
        return tokens.sums(parabola_targets(predictor(tokens.values), responses, curvature))

    def step(
        self,
        predictor: AnyPredictor,
        sums: Any,
        penalty: torch.Tensor,
        *,
        refit: bool = False,
    ) -> PooledPredictor:
        """The predictor with other channels: the minimum of the parabolas that were summed."""
        channel, _ = sums.normal(predictor.factors).solve(penalty / CAUTION)
        bias = sums.mean_responses - (channel * sums.mean_tokens).sum(dim=1)
        return PooledPredictor(predictor.factors._replace(channel=channel), bias)
