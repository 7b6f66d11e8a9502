"""Scores of predictions, neuron by neuron: every number of a result's tables is computed here.

FEV and FEVE themselves are in `stages.feve`, the scores that other work reports in
`correlations` and `r2_er`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cache import UserError, as_array
from stages.feve import fev_and_feve, feve_standard_error
from stages.scores.correlations import normalised, of_averages, of_single_trials
from stages.scores.image_means import image_means
from stages.scores.r2_er import explained
from stages.spread import varies

if TYPE_CHECKING:
    from stages.recordings.recording import Recording


#: Columns of what other work reports.
_COLUMNS = (
    "single_trial_correlation",
    "test_correlation",
    "cc_norm",
    "r2_er",
    "r2_er_low",
    "r2_er_high",
)

#: Neurons that are scored together.
NEURONS_AT_A_TIME = 256


def variance_explained(responses: ArrayLike, predictions: ArrayLike) -> NDArray[np.float64]:
    """1 - SSE/SST of single trials, NaN for a neuron that does not vary.

    Of shape (n_neurons,), from responses and predictions of shape (n_images, n_neurons). Trials
    whose response is NaN are left out, each neuron's own.
    """
    r, p = _pair(responses, predictions)
    if not len(r):
        return np.full(r.shape[1], np.nan)
    errors = _sum(np.square(r - p))
    total = _sum(np.square(r - _mean(r)))
    explained = np.full(r.shape[1], np.nan)
    np.divide(errors, total, out=explained, where=(total > 0) & varies(r))
    return 1 - explained


def _pair(
    responses: ArrayLike, predictions: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both as float64; `UserError` where they do not belong to the same images and neurons."""
    axes = ("image", "neuron")
    r = as_array(responses, "responses", axes, missing=True)
    p = as_array(predictions, "predictions", axes)
    if r.shape != p.shape:
        raise UserError(
            f"responses have shape {r.shape} and predictions {p.shape}: pass one of each per image "
            "and neuron"
        )
    # Sums along axes of another memory layout are rounded differently.
    return r.astype(np.float64, "C", copy=False), p.astype(np.float64, "C", copy=False)


def _sum(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Over images, NaN left out."""
    return np.asarray(np.nansum(values, axis=0) if np.isnan(values).any() else values.sum(axis=0))


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Over images, NaN left out; 0 where there are none."""
    return np.asarray(_sum(values) / np.maximum((~np.isnan(values)).sum(axis=0), 1))


def mean_score(responses: ArrayLike, predictions: ArrayLike) -> float:
    """Mean `variance_explained` over the neurons that vary; -inf where none does."""
    explained = variance_explained(responses, predictions)
    return float(np.nanmean(explained)) if np.isfinite(explained).any() else -np.inf


def correlation(responses: ArrayLike, predictions: ArrayLike) -> NDArray[np.float64]:
    """Pearson correlation over images, NaN where either side does not vary.

    Of shape (n_neurons,), from responses and predictions of shape (n_images, n_neurons). Images
    whose response is NaN are left out, each neuron's own.
    """
    recorded, predicted = _pair(responses, predictions)
    if not len(recorded):
        return np.full(recorded.shape[1], np.nan)
    if np.isnan(recorded).any():
        predicted = np.where(np.isnan(recorded), np.nan, predicted)
    r, p = recorded - _mean(recorded), predicted - _mean(predicted)
    scale = np.sqrt(_sum(np.square(r)) * _sum(np.square(p)))
    out = np.full(r.shape[1], np.nan)
    both = (scale > 0) & varies(recorded) & varies(predicted, rounding=0)
    np.divide(_sum(r * p), scale, out=out, where=both)
    return out


def mean_responses(recording: Recording) -> NDArray[np.float64]:
    """Responses to the test images, mean over repeats; NaN where an image has none.

    Of shape (n_test, n_neurons).
    """
    there = np.isfinite(recording.test_responses)
    total, counts = np.where(there, recording.test_responses, 0).sum(axis=1), there.sum(axis=1)
    mean = np.full(total.shape, np.nan)
    np.divide(total, counts, out=mean, where=counts > 0)
    return mean


def score(
    recording: Recording, test_predictions: ArrayLike, *, explained: NDArray[np.floating[Any]]
) -> dict[str, NDArray[Any]]:
    """Per-neuron results, whatever made the predictions.

    A neuron without a response in any training trial has no scores: they are NaN.

    Parameters
    ----------
    test_predictions : array of shape (n_test, n_neurons)
        In the units of the recording's responses.
    explained : array of shape (n_neurons,)
        Variance explained on the validation trials.

    Returns
    -------
    dict of array of shape (n_neurons,)
        By the column names of the results.
    """
    responses = recording.test_responses
    test_predictions = as_array(test_predictions, "predictions", ("image", "neuron"))
    fev, feve = fev_and_feve(responses, test_predictions)
    counts = np.isfinite(responses).sum(axis=1)
    columns: dict[str, NDArray[Any]] = {**recording.columns, "neuron": recording.neurons}
    for name in ("unit_id", "x", "y"):
        values = recording.unit_ids if name == "unit_id" else getattr(recording, name)
        if values is not None:
            columns[name] = values
    fitted = np.isfinite(recording.spread.mean)
    scores = {
        "fev": fev,
        "feve": feve,
        "val_varexp": explained,
        "feve_se": feve_standard_error(responses, test_predictions),
        **repeat_scores(responses, test_predictions),
    }
    columns |= {name: np.where(fitted, values, np.nan) for name, values in scores.items()}
    return columns | {"n_repeats": counts.max(axis=0)}


def repeat_scores(
    r_repeats: NDArray[np.floating[Any]], predictions: NDArray[np.generic]
) -> dict[str, NDArray[np.float64]]:
    """What other work reports, by the names of the columns, some neurons at a time.

    Parameters
    ----------
    r_repeats : array of shape (n_images, n_repeats, n_neurons)
        NaN where a repeat is missing.
    predictions : array of shape (n_images, n_neurons)

    Returns
    -------
    dict of array of shape (n_neurons,)
        The interval of `r2_er` as `r2_er_low` and `r2_er_high`.
    """
    parts = []
    for first in range(0, max(1, predictions.shape[1]), NEURONS_AT_A_TIME):
        some = slice(first, first + NEURONS_AT_A_TIME)
        means = image_means(r_repeats[..., some], predictions[:, some])
        correlations = of_single_trials(means), of_averages(means), normalised(means)
        parts.append((*correlations, *explained(means)))
    columns = zip(*parts, strict=True)
    return {name: np.concatenate(c) for name, c in zip(_COLUMNS, columns, strict=True)}
