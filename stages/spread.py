"""Spread of each neuron's responses, and what they are divided by for fitting, in any unit."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

#: Numbers that differ by less than this fraction of their size differ by rounding.
ROUNDING = 1e-6

#: Least standard deviation that the published protocols divide by, in the units of the minimodel
#: release's responses.
PUBLISHED_FLOOR = 0.01

#: Responses are in those units where the floor is at most this fraction of what the median neuron
#: is divided by: the floor is for neurons that hardly respond, and would change all others.
FLOOR_SHARE = 0.1

#: Responses that are measured at a time.
AT_A_TIME = 1 << 23


class Spread(NamedTuple):
    """Mean and standard deviation (ddof 0) of each neuron's responses over the training trials.

    Parameters
    ----------
    mean, deviation : array of shape (n_neurons,)
        float64, in the unit of the responses.
    """

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]


def spread_of(
    responses: NDArray[np.floating], trials: NDArray[np.bool_] | slice = slice(None)
) -> Spread:
    """The spread of responses >= 0 of shape (n_trials, n_neurons), over some of the trials."""
    mean, deviation = np.zeros((2, responses.shape[1]))
    step = max(1, AT_A_TIME // max(1, len(responses)))
    for first in range(0, len(mean), step):
        part = responses[:, first : first + step][trials]
        mean[first : first + step] = part.mean(axis=0, dtype=np.float64)
        deviation[first : first + step] = part.std(axis=0, dtype=np.float64)
    return Spread(mean, deviation)


def response_scale(spread: Spread, *, floor: float | None = None) -> NDArray[np.float32]:
    """What each neuron's responses are divided by, array of shape (n_neurons,).

    That is its standard deviation; the mean of a neuron that always responds alike; and, for a
    silent one, the median of what the others are divided by. Responses in another unit give the
    same numbers in that unit.

    Parameters
    ----------
    floor : float, optional
        Least standard deviation of a published protocol. It is kept where the responses are in
        that protocol's units, see `FLOOR_SHARE`.
    """
    mean, deviation = spread
    own = np.where(deviation > ROUNDING * mean, deviation, mean)
    unit = float(np.median(own[own > 0])) if (own > 0).any() else 1.0
    if floor is not None and floor <= FLOOR_SHARE * unit:
        own = np.maximum(deviation, floor)
    return np.where(own > 0, own, unit).astype(np.float32)


def not_rates(responses: NDArray[np.floating], largest: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Neurons with negative responses that are no rounding, array of shape (n_neurons,).

    Spike inference leaves zeros that came out as -1e-9 or so: what is within `ROUNDING` of the
    neuron's largest response is 0.

    Parameters
    ----------
    responses : array of shape (..., n_neurons)
    largest : array of shape (n_neurons,)
        Each neuron's largest response.
    """
    lowest = responses.min(axis=tuple(range(responses.ndim - 1)))
    return np.asarray(lowest < -ROUNDING * largest)


def scale_inputs(spread: Spread, *, floor: float | None) -> dict[str, Any]:
    """What a result's key says of the scale: nothing where it is that of earlier versions.

    They kept to the published floor in every protocol and unit.
    """
    earlier = np.maximum(spread.deviation, PUBLISHED_FLOOR).astype(np.float32)
    same = np.array_equal(response_scale(spread, floor=floor), earlier)
    return {} if same else {"scale": "in any unit"}


def warn_of_scale(
    spread: Spread, *, floor: float | None, name: str, neurons: NDArray[np.int64]
) -> None:
    """Warn of neurons that are divided by something else than their standard deviation."""
    scale = response_scale(spread, floor=floor)
    other = np.flatnonzero(scale != spread.deviation.astype(np.float32))
    if len(other):
        named = ", ".join(str(neuron) for neuron in neurons[other[:5]])
        low, high = scale[other].min(), scale[other].max()
        warnings.warn(
            f"{name}: {len(other)} of {len(scale)} neurons hardly vary over the training trials "
            f"({named}{', ...' if len(other) > 5 else ''}); their responses are divided by "
            f"{low:.3g}{f' to {high:.3g}' if high > low else ''}, not by their standard "
            "deviations: what is fitted to them says little",
            stacklevel=3,
        )


def varies(values: NDArray[np.floating], *, rounding: float = ROUNDING) -> NDArray[np.bool_]:
    """Neurons whose values (n, n_neurons) differ by more than such a fraction, array (n_neurons,).

    A mean in floating point differs from equal values: sums of squares around it are not quite 0.
    """
    high = values.max(axis=0, initial=-np.inf)
    low = values.min(axis=0, initial=np.inf)
    return np.asarray(high - low > rounding * np.maximum(np.abs(high), np.abs(low)))
