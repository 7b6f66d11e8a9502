"""FEV and FEVE: how much of a neuron's variance can be explained, and how much of that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cache import UserError, as_array

#: Responses to repeated images: one array, or one per image.
Repeats = ArrayLike | Sequence[ArrayLike]

_Float = TypeVar("_Float", np.float32, np.float64)

#: Neurons whose fraction of explainable variance is above this count as valid.
VALID_FEV = 0.15


def fev_and_feve(
    r_repeats: Repeats,
    predictions: ArrayLike,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fraction of explainable variance (FEV), and fraction of it that is explained (FEVE).

    With test responses r[i, j] of image i and repeat j, and predictions p[i] (Cadena et al. 2019,
    PLoS Computational Biology 15(4), e1006897),

        total = var of all r[i, j] (ddof 1)
        noise = mean over i of var_j r[i, j] (ddof 1)
        FEV   = (total - noise) / total
        FEVE  = 1 - (mean of (r - p)^2 - noise) / (total - noise)

    Images with a single repeat count in the total and in the error but not in the noise.

    FEVE is a ratio of noisy numbers, and its mean over neurons is below the truth, by the neurons
    whose explainable variance was measured too small; its median is hardly so. Of simulated neurons
    with a true FEVE of 0.50 (10 repeats, FEV 0.3) the mean is 0.481 with 100 images, and 0.470 when
    half of the images have one repeat. If repeats and noise both grow with the signal, it is 0.04:
    total and error count every response, and so the noisy images more, the noise all images alike.

    Parameters
    ----------
    r_repeats : array of shape (n_images, n_repeats, n_neurons), or list of array
        Test responses, NaN or masked where a repeat is missing; or one array of shape
        (n_repeats_i, n_neurons) per image. Anything that `cache.as_array` takes.
    predictions : array of shape (n_images, n_neurons)
        One prediction per image, in the units of the responses.

    Returns
    -------
    fev, feve : array of shape (n_neurons,)
        FEV is NaN where a neuron's total variance is 0 or no image has two repeats, and may be
        negative; FEVE is NaN where nothing is explainable (total <= noise).

    Raises
    ------
    UserError
        Shapes that disagree, predictions that are not finite, infinite responses, masks, and
        whatever else are no numbers.
    """
    images = _per_image(r_repeats, predictions)
    fev, feve = _weighted(images, np.ones((1, len(images.count))))
    return fev[0], feve[0]


def feve_standard_error(
    r_repeats: Repeats,
    predictions: ArrayLike,
    *,
    resamples: int = 200,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Standard error of each neuron's FEVE had other test images been shown: their bootstrap.

    Parameters
    ----------
    r_repeats, predictions
        As for `fev_and_feve`.
    resamples : int
        How often as many images are drawn with replacement.
    seed : int
        Of the draws; all neurons share them.

    Returns
    -------
    array of shape (n_neurons,)
        Standard deviation of FEVE over the resamples; NaN where some have nothing explainable, or
        where there are fewer than two images.

    Raises
    ------
    UserError
        As `fev_and_feve`.
    """
    images = _per_image(r_repeats, predictions)
    n_images = len(images.count)
    if n_images < 2:
        return np.full(images.count.shape[1], np.nan)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(n_images, np.full(n_images, 1 / n_images), size=resamples)
    _, feve = _weighted(images, drawn.astype(np.float64))
    return np.asarray(feve.std(axis=0, ddof=1))


@dataclass(frozen=True, kw_only=True)
class _PerImage:
    """Sums over each image's repeats that FEV and FEVE follow from, of shape (n_images, n_neurons).

    Responses are counted from each neuron's mean, so that sums of squares keep their digits.
    """

    count: NDArray[np.float64]
    total: NDArray[np.float64]
    squares: NDArray[np.float64]
    within: NDArray[np.float64]
    repeated: NDArray[np.float64]
    error: NDArray[np.float64]


def checked_repeats(
    r_repeats: Repeats, predictions: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Test responses (n_images, n_repeats, n_neurons), NaN-padded, and predictions of their images.

    Raises
    ------
    UserError
        As `fev_and_feve`.
    """
    r = _test_responses(r_repeats)
    p = as_array(predictions, "predictions", ("image", "neuron")).astype(
        np.float64, "C", copy=False
    )
    if p.shape != (r.shape[0], r.shape[2]):
        raise UserError(
            f"predictions have shape {p.shape}, but the test responses have {r.shape[0]} images "
            f"and {r.shape[2]} neurons: pass one prediction per image and neuron"
        )
    if not np.isfinite(p).all():
        raise UserError(
            f"{int((~np.isfinite(p)).any(axis=0).sum())} neurons have predictions that are not "
            "finite: check the readouts and the tokens they were given"
        )
    if np.isinf(r).any():
        raise UserError(
            f"{int(np.isinf(r).any(axis=(0, 1)).sum())} neurons have infinite test responses: "
            "correct them; a missing repeat is NaN"
        )
    return r, p


def _per_image(
    r_repeats: Repeats,
    predictions: ArrayLike,
) -> _PerImage:
    r, p = checked_repeats(r_repeats, predictions)
    there = np.isfinite(r)
    count = there.sum(axis=1)
    error = np.where(there, np.square(r - p[:, None, :]), 0.0).sum(axis=1)
    # Shifted by the smallest value first, a constant neuron's variance is 0 and no rounding error.
    smallest = np.where(there, r, np.inf).min(axis=(0, 1), initial=np.inf)
    shifted = np.where(there, r - np.where(np.isfinite(smallest), smallest, 0.0), 0.0)
    mean = shifted.sum(axis=(0, 1)) / np.maximum(count.sum(axis=0), 1)
    centred = np.where(there, shifted - mean, 0.0)
    own = centred.sum(axis=1) / np.maximum(count, 1)
    spread = np.square(np.where(there, centred - own[:, None, :], 0.0)).sum(axis=1)
    same = np.where(there, r, np.inf).min(axis=1) == np.where(there, r, -np.inf).max(axis=1)
    repeated = count >= 2
    return _PerImage(
        count=count.astype(np.float64),
        total=centred.sum(axis=1),
        squares=np.square(centred).sum(axis=1),
        within=np.where(repeated & ~same, spread / np.maximum(count - 1, 1), 0.0),
        repeated=repeated.astype(np.float64),
        error=error,
    )


def _weighted(
    images: _PerImage, weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """FEV and FEVE, (n_draws, n_neurons), with images counted as `weights` (n_draws, n_images)."""
    count = weights @ images.count
    with np.errstate(divide="ignore", invalid="ignore"):
        squares = weights @ images.squares - np.square(weights @ images.total) / count
        total = np.where(count > 1, np.maximum(squares, 0) / (count - 1), np.nan)
        noise = (weights @ images.within) / (weights @ images.repeated)
        explainable = total - noise
        fev = np.where(total > 0, explainable / total, np.nan)
        unexplained = ((weights @ images.error) / count - noise) / explainable
    return fev, np.where(explainable > 0, 1 - unexplained, np.nan)


def _test_responses(
    r_repeats: Repeats,
) -> NDArray[np.float64]:
    """Test responses as one NaN-padded array of shape (n_images, n_repeats, n_neurons)."""
    axes = ("image", "repeat", "neuron")
    kind = getattr(getattr(r_repeats, "dtype", None), "kind", None)
    if not isinstance(r_repeats, list | tuple) and kind != "O":
        whole = as_array(r_repeats, "test responses", axes, missing=True)
        return whole.astype(np.float64, "C", copy=False)
    images = [
        as_array(image, f"test responses of image {i}", axes[1:], missing=True)
        for i, image in enumerate(cast("Sequence[ArrayLike]", r_repeats))
    ]
    widths = {image.shape[1] for image in images}
    if len(widths) != 1:
        raise UserError(
            "test responses of the images must each have shape (repeat, neuron) with the same "
            f"neurons; found {sorted({image.shape for image in images})[:4]}"
        )
    return pad_repeats(images, widths.pop(), dtype=np.float64)


def pad_repeats(
    repeats: Sequence[NDArray[np.generic]], n_neurons: int, *, dtype: type[_Float]
) -> NDArray[_Float]:
    """Responses to repeated images in one array, NaN where an image had fewer repeats.

    Of shape (n_images, largest n_repeats_i, n_neurons), from an array per image, of shape
    (n_repeats_i, n_neurons); there may be no image.
    """
    longest = max((len(part) for part in repeats), default=0)
    padded = np.full((len(repeats), longest, n_neurons), np.nan, dtype=dtype)
    for image, part in enumerate(repeats):
        padded[image, : len(part)] = part
    return padded
