"""A tenth of the trials for validation, where a caller names none."""

from __future__ import annotations

from typing import Any

import numpy as np

from cache import UserError, as_array, whole_number
from stages.tokens.given import CLS, GRID

#: Part of the trials that is drawn.
FRACTION = 0.1


def held_out(x: Any, r: Any, *, seed: int) -> tuple[Any, Any, Any, Any]:
    """Tokens and responses of the training and of the validation trials.

    Parameters
    ----------
    x : array of shape (n_images, n_rows, n_columns, n_channels) or (n_images, n_channels)
    r : array of shape (n_images, n_neurons)
        NaN where one is missing.
    seed : int
        Decides which trials are drawn. Trials of one image may be parted: where images are
        repeated, name validation trials yourself.

    Raises
    ------
    UserError
        Fewer than two trials, or another number of responses.
    """
    tokens = as_array(x, "tokens", GRID, CLS)
    responses = as_array(r, "responses", ("image", "neuron"), missing=True)
    n_trials = len(tokens)
    if n_trials < 2 or len(responses) != n_trials:
        raise UserError(
            f"tokens of {n_trials} images and responses to {len(responses)}: one row of responses "
            "per image is needed, and two images at least, so that some can be for validation"
        )
    order = np.random.default_rng(whole_number(seed, "seed", least=0)).permutation(n_trials)
    n_validation = max(1, round(FRACTION * n_trials))
    training, validation = np.sort(order[n_validation:]), np.sort(order[:n_validation])
    return tokens[training], responses[training], tokens[validation], responses[validation]
