"""The trials that a solver is given."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from stages.tokens.tokens import Tokens


@dataclass(frozen=True, kw_only=True)
class FitData:
    """Tokens and normalised responses of the training and the validation trials.

    Parameters
    ----------
    x_train, x_validation : Tokens
        Of shape (n_trials, n_rows, n_columns, n_channels); solvers convert part by part.
    r_train, r_validation : tensor of shape (n_trials, n_neurons)
        float32, divided by each neuron's training standard deviation.
    neurons : array of shape (n_neurons,)
        Who each neuron is: what a solver draws for it depends on this and the seed alone.
    seed : int
        For initial weights and the order of images.
    device : torch device
        Where to compute.
    memory_limit : int, optional
        Bytes that the process may use; no limit where absent.
    """

    x_train: Tokens
    r_train: torch.Tensor
    x_validation: Tokens
    r_validation: torch.Tensor
    neurons: NDArray[np.int64]
    seed: int
    device: torch.device
    memory_limit: int | None = None

    def of(self, neurons: slice) -> FitData:
        """The same of some neurons."""
        return replace(
            self,
            r_train=self.r_train[:, neurons],
            r_validation=self.r_validation[:, neurons],
            neurons=self.neurons[neurons],
        )
