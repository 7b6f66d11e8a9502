"""What every solver is given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class FitData:
    """Tokens and normalised responses of the training and the validation trials.

    Parameters
    ----------
    x_train, x_validation : tensor of shape (n_trials, n_rows, n_columns, n_channels)
        In their stored dtype; solvers convert batch by batch.
    r_train, r_validation : tensor of shape (n_trials, n_neurons)
        float32, divided by each neuron's training standard deviation.
    neurons : array of shape (n_neurons,)
        Who each neuron is: what a solver draws for it depends on this and the seed alone.
    seed : int
        For initial weights and the order of images.
    device : torch device
        Where to compute.
    """

    x_train: torch.Tensor
    r_train: torch.Tensor
    x_validation: torch.Tensor
    r_validation: torch.Tensor
    neurons: NDArray[np.int64]
    seed: int
    device: torch.device
