"""Spread of each neuron's responses, and what they are divided by for fitting, in any unit."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cache import UserError

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
    """The spread of responses of shape (n_trials, n_neurons), over some of the trials.

    A neuron has its own trials where responses are missing, and is NaN where all are.
    """
    mean, deviation = np.zeros((2, responses.shape[1]))
    step = max(1, AT_A_TIME // max(1, len(responses)))
    for first in range(0, len(mean), step):
        part = responses[:, first : first + step][trials]
        own = slice(first, first + step)
        mean[own] = part.mean(axis=0, dtype=np.float64)
        deviation[own] = part.std(axis=0, dtype=np.float64)
        partly = np.flatnonzero(np.isnan(mean[own]) & ~np.isnan(part).all(axis=0))
        mean[first + partly] = np.nanmean(part[:, partly], axis=0, dtype=np.float64)
        deviation[first + partly] = np.nanstd(part[:, partly], axis=0, dtype=np.float64)
    return Spread(mean, deviation)


def extremes(
    *responses: NDArray[np.floating],
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """The lowest and the highest response of each neuron, the last axis; NaN where all are missing.

    Arrays of shape (n_neurons,). They need no second array of the responses' size.
    """
    lowest, highest = (
        ufunc.reduce(
            [ufunc.reduce(r, axis=tuple(range(r.ndim - 1)), initial=np.nan) for r in responses]
        )
        for ufunc in (np.fmin, np.fmax)
    )
    return lowest, highest


def without_rounding(
    responses: NDArray[np.float32], lowest: NDArray[np.floating], highest: NDArray[np.floating]
) -> NDArray[np.float32]:
    """Responses in which a neuron's negative ones are 0 where all of them are rounding errors.

    The array itself where there are none.

    Parameters
    ----------
    lowest, highest : array of shape (n_neurons,)
        Of all responses of the neuron, from `extremes`.
    """
    rounded = (lowest < 0) & (lowest >= -ROUNDING * highest)
    if not rounded.any():
        return responses
    return np.where(rounded & (responses < 0), np.float32(0), responses)


def require_rates(what: str, neurons: NDArray[np.int64], n_neurons: int) -> None:
    """Refuse with `UserError` neurons with negative responses, where there are any."""
    if len(neurons):
        raise UserError(
            f"{what}: {len(neurons)} of {n_neurons} neurons have negative responses "
            f"({first_five(neurons)}), which are no rates: fit them with "
            'readout.solver = "als" and readout.als.output = "linear", or leave those neurons out'
        )


def first_five(neurons: NDArray[np.int64]) -> str:
    """The numbers of the first few neurons, for messages."""
    return ", ".join(map(str, neurons[:5])) + (", ..." if len(neurons) > 5 else "")


def response_scale(spread: Spread, *, floor: float | None = None) -> NDArray[np.float32]:
    """What each neuron's responses are divided by, array of shape (n_neurons,).

    That is its standard deviation; the mean of a neuron that always responds alike; and, for a
    silent one and one without responses, the median of what the others are divided by. Responses
    in another unit give the same numbers in that unit.

    Parameters
    ----------
    floor : float, optional
        Least standard deviation of a published protocol. It is kept where the responses are in
        that protocol's units, see `FLOOR_SHARE`.
    """
    mean, deviation = spread
    own = np.where(deviation > ROUNDING * np.abs(mean), deviation, np.abs(mean))
    unit = float(np.median(own[own > 0])) if (own > 0).any() else 1.0
    if floor is not None and floor <= FLOOR_SHARE * unit:
        own = np.fmax(deviation, floor)
    return np.where(own > 0, own, unit).astype(np.float32)


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
    """Warn of neurons without training trials, and of those not divided by their deviation."""
    absent = np.isnan(spread.deviation)
    if absent.any():
        warnings.warn(
            f"{name}: {absent.sum()} of {len(absent)} neurons have no response in any training "
            f"trial ({first_five(neurons[absent])}): nothing is fitted to them, and their scores "
            "are NaN",
            stacklevel=3,
        )
    scale = response_scale(spread, floor=floor)
    other = np.flatnonzero((scale != spread.deviation.astype(np.float32)) & ~absent)
    if len(other):
        low, high = scale[other].min(), scale[other].max()
        warnings.warn(
            f"{name}: {len(other)} of {len(scale)} neurons hardly vary over the training trials "
            f"({first_five(neurons[other])}); their responses are divided by "
            f"{low:.3g}{f' to {high:.3g}' if high > low else ''}, not by their standard "
            "deviations: what is fitted to them says little",
            stacklevel=3,
        )


def varies(values: NDArray[np.floating], *, rounding: float = ROUNDING) -> NDArray[np.bool_]:
    """Neurons whose values (n, n_neurons) differ by more than such a fraction, array (n_neurons,).

    A mean in floating point differs from equal values: sums of squares around it are not quite 0.
    Missing values, NaN, are left out.
    """
    low, high = extremes(values)
    return np.asarray(high - low > rounding * np.maximum(np.abs(high), np.abs(low)))
