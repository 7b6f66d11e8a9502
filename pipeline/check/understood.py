"""Facts of images and recordings that a person recognises, and doubts about them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from stages.feve import VALID_FEV, fev_and_feve
from stages.scores import mean_responses

if TYPE_CHECKING:
    from stages.recordings import Recording
    from stages.stimuli import Stimuli

#: Photographs are mostly dark with brighter parts. Where so many images are the other way round,
#: they may be negatives.
MOSTLY = 0.8


class Skew(NamedTuple):
    """Images whose few far pixels are dark rather than bright, and all that vary."""

    to_dark: int
    varying: int


def images_told(stimuli: Stimuli, crop: tuple[int, int] | None) -> tuple[dict[str, Any], Skew]:
    """What the images are, and how their pixels are skewed."""
    low, high, to_dark, varying = np.inf, -np.inf, 0, 0
    for _, images in stimuli.batches():
        low, high = min(low, float(images.min())), max(high, float(images.max()))
        pixels = images.reshape(len(images), -1).astype(np.float64)
        apart = pixels.mean(axis=1) - np.median(pixels, axis=1)
        varies = pixels.std(axis=1) > 0
        to_dark += int((varies & (apart < 0)).sum())
        varying += int(varies.sum())
    rows, columns = stimuli.image_shape
    told = {
        "number": len(stimuli),
        "size": f"{rows} x {columns}",
        "dtype": str(stimuli.dtype),
        "range": f"{low:g} to {high:g}",
        "ids": f"{stimuli.ids[0]} to {stimuli.ids[-1]}",
        "columns": "all" if crop in (None, (0, columns)) else f"{crop[0]} to {crop[1]}",
    }
    return told, Skew(to_dark, varying)


def recording_told(recording: Recording) -> dict[str, Any]:
    """What a recording holds."""
    test = recording.test_responses
    repeats = np.isfinite(test).any(axis=2).sum(axis=1)
    n_validation = int(recording.validation.sum())
    every = [recording.responses, test.reshape(-1, recording.n_neurons)]
    count = sum(int(np.isfinite(part).sum()) for part in every)
    shown = np.isfinite(test).any(axis=2, keepdims=True)
    missing = int(np.isnan(recording.responses).sum()) + int((np.isnan(test) & shown).sum())
    negative = sum(int((part < 0).sum()) for part in every)
    silent = (np.nan_to_num(recording.responses) == 0).all(axis=0)
    fev, _ = fev_and_feve(test, np.nan_to_num(mean_responses(recording)))
    return {
        "trials": (
            f"{len(recording.image_ids) - n_validation} training, {n_validation} validation, "
            f"{int(repeats.sum())} test"
        ),
        "test images": len(recording.test_image_ids),
        "repeats of a test image": (
            f"fewest {repeats.min()}, median {np.median(repeats):g}, most {repeats.max()}"
        ),
        "neurons": recording.n_neurons,
        f"neurons with FEV > {VALID_FEV}": int((fev > VALID_FEV).sum()),
        "columns of neurons": ", ".join(recording.columns) or "none",
        "missing responses": _share(missing, count + missing),
        "negative responses": _share(negative, count),
        "silent neurons": _share(int(silent.sum()), recording.n_neurons),
    }


def doubts_of_images(stimuli: Stimuli, skew: Skew, recordings: Sequence[Recording]) -> list[str]:
    """What may be wrong with the images, or with how trials name them."""
    found = []
    if skew.varying and skew.to_dark >= MOSTLY * skew.varying:
        found.append(
            f"{skew.to_dark} of {skew.varying} images are mostly bright with darker parts, as "
            "negatives of photographs are: check that low numbers are dark"
        )
    for recording in recordings:
        ids = recording.all_image_ids
        if len(ids) and ids[0] == 1 and ids[-1] == len(stimuli) and stimuli.ids[0] == 0:
            found.append(
                f"recording {recording.name} shows images 1 to {ids[-1]} and never image 0: check "
                "whether its ids count from 1"
            )
    return found


def _share(part: int, whole: int) -> str:
    return f"{part} of {whole} ({100 * part / max(1, whole):.3g} %)"
